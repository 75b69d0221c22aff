#!/bin/sh
set -e
case $1 in
-* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
    # Outside loopback unless told otherwise, as the public image is.
    case " $* " in
    *" --protected-mode "* | *.conf*) ;;
    *) set -- "$@" --protected-mode no ;;
    esac
    if [ "$(id -u)" = 0 ]; then
        chown -R redis /data
        exec setpriv --reuid=redis --regid=redis --clear-groups "$@"
    fi
fi
exec "$@"
