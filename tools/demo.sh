#!/usr/bin/env bash
# The whole platform on this machine: Mosquitto, Redis, PostgreSQL, the Mercure hub, the bridge and some
# simulated devices, on free loopback ports, until Ctrl-C. Everything is under demo/, which is removed at
# the end; no process stays behind (each dies with this script, however it ends).
#
#     make demo
#
# DEMO_PORT: the page's port (9080, or a free one if that is taken) · DEMO_PORTS: six for the servers, if not any that
# are free · DEMO_SECONDS: end after so long, and fail if no value has reached a subscriber of the hub by then.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${MQTT_BRIDGE_BUILD:-$root/build}
demo=$root/demo

fail() {
    echo "demo: $1" >&2
    exit 1
}

for program in "$build/mqtt-bridge" "$build"/mqtt-bridge-{supervisor,consumer,worker,monitor}; do
    [ -x "$program" ] || fail "$program is missing: run \`make\`"
done
for command in mosquitto redis-server curl setsid setpriv; do
    PATH=$PATH:/usr/sbin command -v "$command" >/dev/null || fail "$command is missing: run \`make deps\`"
done
postgres_bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
[ -x "$postgres_bin/initdb" ] || fail "PostgreSQL is missing: run \`make deps\`"
hub=$("$root/tools/hub-binary")

mkdir -p "$demo"
exec 8>"$demo/lock"
flock -n 8 || fail "a demo runs already in $demo"
find "$demo" -mindepth 1 ! -name lock -delete

# Processes: the last started is the first to end.

names=() pids=() signals=()

# Whose parent ended before the signal for that was set gets none: it looks for itself, once.
# shellcheck disable=SC2016 # for that shell
unless_orphan=(sh -c '[ "$PPID" = "$0" ] || exit 1; exec "$@"' $$)

start() { # NAME SIGNAL COMMAND...; its output goes to demo/NAME.log
    local name=$1 signal=$2
    shift 2
    setsid setpriv --pdeathsig KILL -- "${unless_orphan[@]}" "$@" </dev/null >"$demo/$name.log" 2>&1 8>&- &
    names+=("$name") pids+=($!) signals+=("$signal")
}

is_running() {
    kill -0 "$1" 2>/dev/null
}

stop_one() {
    local pid=$1 signal=$2 tenths=0
    ! is_running "$pid" || kill -"$signal" "$pid" 2>/dev/null || true
    while is_running "$pid" && [ $tenths -lt 150 ]; do
        sleep 0.1
        tenths=$((tenths + 1))
    done
    ! is_running "$pid" || kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

stop_all() {
    local status=$? i
    trap '' INT TERM HUP
    trap - EXIT
    [ ${#pids[@]} -eq 0 ] || printf '\ndemo: stopping\n'
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        stop_one "${pids[i]}" "${signals[i]}"
    done
    if [ "$status" -ne 0 ] && [ -n "${starting:-}" ] && [ -f "$demo/$starting.log" ]; then
        echo "demo: the end of $starting's log:" >&2
        tail -n 20 "$demo/$starting.log" >&2
    fi
    rm -rf "$demo"
    exit "$status"
}
trap stop_all EXIT
trap 'exit 0' INT TERM HUP

wait_for() { # NAME COMMAND...: until the command succeeds; starts as part of NAME
    local tries=0
    starting=$1
    shift
    until "$@" >/dev/null 2>&1; do
        is_running "${pids[-1]}" || fail "$starting ended at once"
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "$starting does not answer after 30 seconds"
        sleep 0.1
    done
}

free_ports() { # COUNT; below the range that outgoing connections take theirs from
    python3 - "$1" <<'PYTHON'
import random, socket, sys

taken = []
while len(taken) < int(sys.argv[1]):
    probe = socket.socket()
    try:
        probe.bind(("127.0.0.1", random.randrange(20000, 32000)))
        taken.append(probe)
    except OSError:
        probe.close()
print(*(probe.getsockname()[1] for probe in taken))
PYTHON
}

port_answers() {
    (exec 9<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

read -r mqtt_port redis_port postgres_port hub_port admin_port spare_port <<<"${DEMO_PORTS:-$(free_ports 6)}"
page_port=${DEMO_PORT:-9080}
if port_answers "$page_port"; then
    [ -z "${DEMO_PORT:-}" ] || fail "port $page_port is taken"
    page_port=$spare_port
fi
secret=$(od -An -N 24 -tx1 /dev/urandom | tr -d ' \n')

# The four servers.

start_mosquitto() {
    mkdir "$demo/mosquitto"
    # set_tcp_nodelay: small packets in a burst may wait up to 40 ms for each other.
    cat >"$demo/mosquitto/mosquitto.conf" <<CONF
set_tcp_nodelay true
listener $mqtt_port 127.0.0.1
allow_anonymous true
persistence true
persistence_location $demo/mosquitto/
max_queued_messages 100000
max_inflight_messages 200
log_dest stderr
CONF
    [ "$(id -u)" -ne 0 ] || echo 'user root' >>"$demo/mosquitto/mosquitto.conf"
    start mosquitto TERM "$(PATH=$PATH:/usr/sbin command -v mosquitto)" -c "$demo/mosquitto/mosquitto.conf"
}

start_redis() {
    mkdir "$demo/redis"
    start redis TERM redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$demo/redis" \
        --appendonly yes --save '' --maxmemory-policy noeviction
}

as_postgres=()
start_postgres() {
    mkdir "$demo/postgres"
    if [ "$(id -u)" -eq 0 ]; then # PostgreSQL refuses root; the user postgres may not see this folder
        as_postgres=(setpriv --reuid postgres --regid postgres --init-groups)
        chown postgres:postgres "$demo/postgres"
        "${as_postgres[@]}" test -w "$demo/postgres" ||
            as_postgres+=(--inh-caps +dac_override --ambient-caps +dac_override)
    fi
    (cd "$demo/postgres" && "${as_postgres[@]}" "$postgres_bin/initdb" -D "$demo/postgres/data" -U bridge \
        -A trust -E UTF8 --locale=C.UTF-8 --no-sync) >"$demo/initdb.log" 2>&1 ||
        { tail -n 5 "$demo/initdb.log" >&2; fail "initdb failed"; }
    # The signal that follows this script's death is set last: a change of user clears it.
    start postgres INT "${as_postgres[@]}" setpriv --pdeathsig QUIT "$postgres_bin/postgres" \
        -D "$demo/postgres/data" -p "$postgres_port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c fsync=off
}

start_hub() {
    mkdir "$demo/hub"
    start hub TERM env HOME="$demo/hub" XDG_CONFIG_HOME="$demo/hub" XDG_DATA_HOME="$demo/hub" \
        HUB_PORT="$hub_port" HUB_ADMIN="127.0.0.1:$admin_port" \
        MERCURE_PUBLISHER_JWT_KEY="$secret" MERCURE_PUBLISHER_JWT_ALG=HS256 \
        MERCURE_SUBSCRIBER_JWT_KEY="$secret" MERCURE_SUBSCRIBER_JWT_ALG=HS256 \
        MERCURE_EXTRA_DIRECTIVES="anonymous
cors_origins http://127.0.0.1:$page_port http://localhost:$page_port
heartbeat 20s
transport bolt {
    path $demo/hub/updates.db
    size 1000
    cleanup_frequency 0.3
}" "$hub" run --config "$root/tests/hub/Caddyfile" --adapter caddyfile
}

start_bridge() {
    (umask 077 && : >"$demo/mqtt-bridge.ini") # a secret is in it
    cat >"$demo/mqtt-bridge.ini" <<INI
[mqtt]
host = 127.0.0.1
port = $mqtt_port
topics = #
qos = 1

[transport:async]
dsn = redis://127.0.0.1:$redis_port/messages

[worker]
count = 2

[failure]
dsn = postgresql://bridge@127.0.0.1:$postgres_port/postgres

[mercure]
url = http://127.0.0.1:$hub_port/.well-known/mercure
jwt_secret = $secret

[http]
listen = 127.0.0.1:$page_port

[log]
format = line

[supervisor]
state_dir = $demo/state
socket = $demo/control.sock
INI
    mkdir -p "$demo/state"
    start bridge TERM env MQTT_BRIDGE_CONFIG="$demo/mqtt-bridge.ini" "$build/mqtt-bridge-supervisor"
}

echo "demo: starting Mosquitto, Redis, PostgreSQL, the Mercure hub and the bridge under demo/"
start_mosquitto
wait_for mosquitto port_answers "$mqtt_port"
start_redis
wait_for redis port_answers "$redis_port"
start_postgres
wait_for postgres "$postgres_bin/pg_isready" -h 127.0.0.1 -p "$postgres_port"
start_hub
wait_for hub curl -fsS "http://127.0.0.1:$hub_port/healthz"
start_bridge
wait_for bridge env MQTT_BRIDGE_CONFIG="$demo/mqtt-bridge.ini" "$build/mqtt-bridge" health
start devices TERM /usr/bin/python3 "$root/tools/demo-devices" "$mqtt_port"
starting=devices

cat <<TEXT

  page      http://127.0.0.1:$page_port/
  status    http://127.0.0.1:$page_port/status    also /readyz /healthz, or:
            MQTT_BRIDGE_CONFIG=demo/mqtt-bridge.ini $build/mqtt-bridge status
  hub       http://127.0.0.1:$hub_port/.well-known/mercure?topic=*
  devices   mosquitto_pub -p $mqtt_port -t room/lamp -m '{"on":true}'
  failures  MQTT_BRIDGE_CONFIG=demo/mqtt-bridge.ini $build/mqtt-bridge failed list    or as rows:
            psql -h 127.0.0.1 -p $postgres_port -U bridge postgres -c 'TABLE messenger_messages'
  log       demo/bridge.log

  Ctrl-C stops everything.

TEXT
# In the background, so that a signal to this script is answered at once.
setpriv --pdeathsig TERM -- "${unless_orphan[@]}" /usr/bin/python3 "$root/tools/demo-watch" \
    "http://127.0.0.1:$page_port/status" "http://127.0.0.1:$hub_port/.well-known/mercure?topic=*" "${DEMO_SECONDS:-0}" 8>&- &
watch=$!
names+=(watch) pids+=("$watch") signals+=(TERM)
wait "$watch" || { starting=bridge; fail "ended early"; }
