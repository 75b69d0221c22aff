#!/bin/bash
# The public image's settings: POSTGRES_PASSWORD, POSTGRES_USER and POSTGRES_DB, or each with _FILE, and
# the scripts of /docker-entrypoint-initdb.d, for an empty PGDATA.
set -e

from_file() { # VARIABLE
    local file="${1}_FILE"
    if [ -n "${!file:-}" ]; then
        export "$1=$(<"${!file}")"
    fi
}

run_init_scripts() { # USER DATABASE
    local script
    for script in /docker-entrypoint-initdb.d/*; do
        # shellcheck disable=SC1090 # the user's
        case $script in
        *.sh) . "$script" ;;
        *.sql) psql -v ON_ERROR_STOP=1 -U "$1" -d "$2" -f "$script" ;;
        esac
    done
}

set_up() {
    local user database
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER
    from_file POSTGRES_DB
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo "Error: Database is uninitialized and superuser password is not specified." >&2
        exit 1
    fi
    initdb -U "$user" --pwfile=<(echo "$POSTGRES_PASSWORD") -A scram-sha-256 --auth-local=trust >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start >/dev/null
    [ "$database" = postgres ] || createdb -U "$user" -O "$user" "$database"
    run_init_scripts "$user" "$database"
    pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
}

case $1 in
-*) set -- postgres "$@" ;;
esac
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
[ -s "$PGDATA/PG_VERSION" ] || set_up
exec "$@" -c listen_addresses='*'
