#!/bin/sh
set -e
# A configuration that is mounted read-only stays as it is.
if [ "$(id -u)" = 0 ]; then
    chown -R mosquitto:mosquitto /mosquitto 2>/dev/null || true
fi
exec "$@"
