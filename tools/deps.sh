#!/usr/bin/env bash
# Installs what this machine lacks of the packages for a purpose. Debian 12 and 13.
#
#     tools/deps.sh [PURPOSE]          all: everything but compose and compat (the default)
#                                      build: what compiles the programs · hub: what builds the demo's hub
#                                      demo: `make demo` · test: `make test`
#                                      lint: `make lint`, `make fuzz` · compose: `make test-compose`
#                                      compat: `make test-compat`
#     tools/deps.sh --list [PURPOSE]   the packages, one a line; installs nothing
#
# Asks dpkg alone when nothing is missing (well under a second). Otherwise it needs root or sudo. No
# service is started, now or at the next boot, and no database cluster is made: a policy-rc.d and a
# createcluster.conf stand only while apt works, and only where nobody else's stand already.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

build=(gcc libc6-dev make pkgconf libpaho-mqtt-dev libhiredis-dev libpq-dev
    libcurl4-openssl-dev libcjson-dev libmicrohttpd-dev libssl-dev uthash-dev)
# golang-go comes besides, where there is neither a hub nor a Go that can build one.
hub=(ca-certificates)
demo=("${build[@]}" "${hub[@]}" redis-server mosquitto mosquitto-clients postgresql curl
    python3 python3-paho-mqtt libjs-dygraphs)
# shellcheck disable=SC2034 # by its name, below
test=("${demo[@]}" libcmocka-dev prometheus python3-pytest python3-pytest-timeout python3-pytest-xdist
    python3-redis python3-psycopg2 python3-selenium chromium chromium-driver redis-tools nginx procps groff-base
    php-cli php-redis php-pgsql php-symfony-messenger php-symfony-redis-messenger
    php-symfony-doctrine-messenger php-symfony-serializer php-symfony-property-access
    php-symfony-event-dispatcher php-symfony-console php-symfony-framework-bundle php-doctrine-dbal)
lint=("${build[@]}" python3 git clang clang-format clang-tidy libclang-rt-dev cppcheck shellcheck python3-pyflakes)
# shellcheck disable=SC2034
compose=("${test[@]}" debootstrap)
# shellcheck disable=SC2034
compat=("${compose[@]}")
# shellcheck disable=SC2034
all=("${test[@]}" "${lint[@]}")
# Units that a fresh install would start at the next boot.
units=(redis-server mosquitto postgresql nginx prometheus)

fail() {
    echo "deps: $1" >&2
    exit 1
}

list=no
if [ "${1:-}" = --list ]; then
    list=yes
    shift
fi
purpose=${1:-all}
case $purpose in
all | build | hub | demo | test | lint | compose | compat) declare -n wanted=$purpose ;;
*) fail "unknown purpose $purpose (all, build, hub, demo, test, lint, compose or compat)" ;;
esac
needs_hub=yes
[[ $purpose != build && $purpose != lint ]] || needs_hub=no
if [ $list = yes ]; then
    printf '%s\n' "${wanted[@]}"
    [ $needs_hub = no ] || echo golang-go
    exit 0
fi

command -v dpkg-query >/dev/null || fail "this is no Debian; install by hand: ${wanted[*]}"
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) \
    <(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
        sed -n 's/^installed //p' | sort -u))
# The tests' hub is built from source unless there is one; that takes a Go of 1.21 or later.
go_missing=no
if [ $needs_hub = yes ] && ! "$root/tools/hub-binary" --possible; then
    go_missing=yes
fi
[ ${#missing[@]} -gt 0 ] || [ $go_missing = yes ] || exit 0

codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
case $codename in
bookworm | trixie) ;;
*) echo "deps: made for Debian 12 and 13, this is ${codename:-unknown}; trying all the same" >&2 ;;
esac
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        fail "missing: ${missing[*]}; run as root: apt-get install --no-install-recommends ${missing[*]}"
    exec sudo "$root/tools/deps.sh" "$purpose"
fi

policy=/usr/sbin/policy-rc.d
cluster_conf=/etc/postgresql-common/createcluster.conf
temporary=$(mktemp -d)
policy_is_ours=no
restore() {
    [ $policy_is_ours = no ] || rm -f "$policy"
    [ ! -e "$temporary/createcluster.conf" ] || cp -p "$temporary/createcluster.conf" "$cluster_conf"
    rm -rf "$temporary"
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$temporary/policy-rc.d"
    chmod 755 "$temporary/policy-rc.d"
    cp -p "$temporary/policy-rc.d" "$policy"
    policy_is_ours=yes
fi

# dpkg waits for the disk at each file, which takes half of the time; here it is waited for once, at the end.
export DEBIAN_FRONTEND=noninteractive
apt_install() {
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io \
        "${sources[@]}" "$@" \
        >"$temporary/apt.log" 2>&1 || {
        tail -n 20 "$temporary/apt.log" >&2
        fail "apt-get could not install: $*"
    }
}

bookworm_archive() { # apt knows it after its first update
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 2>/dev/null | head -n 1
}

# Debian 12's Go is too old; its backports have one. They are used for this one package, through a
# list of sources that exists only here.
sources=() release=()
use_backports() {
    local archive folder=$temporary/sources
    archive=$(bookworm_archive)
    if [ -z "$archive" ]; then
        apt-get update -qq
        archive=$(bookworm_archive)
    fi
    mkdir "$folder"
    cp -r /etc/apt/sources.list.d/. "$folder"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
        "${archive:-http://deb.debian.org/debian} bookworm-backports main" >"$folder/backports.list"
    sources=(-o Dir::Etc::sourceparts="$folder")
    release=(-t bookworm-backports)
}

no_cluster() { # postgresql-common alone makes none; its setting must stand before the server comes
    apt_install postgresql-common
    cp -p "$cluster_conf" "$temporary/createcluster.conf"
    echo 'create_main_cluster = false' >>"$cluster_conf"
}

install_missing() {
    local fresh=() unit
    echo "deps: installing ${missing[*]}" | fold -s -w 100
    for unit in "${units[@]}"; do
        [[ " ${missing[*]} " != *" $unit "* ]] || fresh+=("$unit")
    done
    [[ " ${missing[*]} " != *" postgresql "* ]] || no_cluster
    apt_install "${missing[@]}"
    for unit in "${fresh[@]}"; do
        ! command -v systemctl >/dev/null || systemctl disable --quiet "$unit" 2>/dev/null || true
    done
    [ ${#fresh[@]} -eq 0 ] ||
        echo "deps: installed but neither started nor enabled: ${fresh[*]} (systemctl enable --now NAME)"
}

install_go() {
    echo "deps: installing golang-go"
    apt_install "${release[@]}" golang-go
}

[ $go_missing = no ] || [ "$codename" != bookworm ] || use_backports
apt-get update -qq "${sources[@]}"
[ ${#missing[@]} -eq 0 ] || install_missing
[ $go_missing = no ] || install_go
sync -f /var/lib/dpkg
