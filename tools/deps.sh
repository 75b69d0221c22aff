#!/usr/bin/env bash
# Installs what building, testing and linting need and this machine lacks. Debian 12 and 13.
#
#     tools/deps.sh            everything
#     tools/deps.sh build      only what compiles the programs
#     tools/deps.sh compose    everything, and what makes container images where no registry is reached
#     tools/deps.sh --list     the packages, one a line; installs nothing
#
# Asks dpkg alone when nothing is missing (well under a second). Otherwise it needs root or sudo. No
# service is started, now or at the next boot, and no database cluster is made: a policy-rc.d and a
# createcluster.conf stand only while apt works, and only where nobody else's stand already.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

build_packages=(build-essential pkgconf libpaho-mqtt-dev libhiredis-dev libpq-dev
    libcurl4-openssl-dev libcjson-dev libinih-dev libmicrohttpd-dev libssl-dev uthash-dev)
test_packages=(libcmocka-dev python3 python3-pytest python3-pytest-timeout python3-redis
    python3-psycopg2 python3-paho-mqtt python3-selenium chromium chromium-driver libjs-dygraphs
    redis-server redis-tools mosquitto mosquitto-clients postgresql nginx curl ca-certificates procps
    php-cli php-redis php-pgsql php-symfony-messenger php-symfony-redis-messenger
    php-symfony-doctrine-messenger php-symfony-serializer php-symfony-property-access
    php-symfony-event-dispatcher php-symfony-console php-doctrine-dbal)
lint_packages=(git clang clang-format clang-tidy libclang-rt-dev cppcheck shellcheck python3-pyflakes)
compose_packages=(debootstrap)
# Units that a fresh install would start at the next boot.
units=(redis-server mosquitto postgresql nginx)

fail() {
    echo "deps: $1" >&2
    exit 1
}

wanted=("${build_packages[@]}")
case ${1:-all} in
all | --list) wanted+=("${test_packages[@]}" "${lint_packages[@]}") ;;
compose) wanted+=("${test_packages[@]}" "${lint_packages[@]}" "${compose_packages[@]}") ;;
build) ;;
*) fail "unknown argument $1 (all, build, compose or --list)" ;;
esac
if [ "${1:-}" = --list ]; then
    printf '%s\n' "${wanted[@]}" golang-go
    exit 0
fi

command -v dpkg-query >/dev/null || fail "this is no Debian; install by hand: ${wanted[*]}"
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort) \
    <(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
        sed -n 's/^installed //p' | sort))
# The tests' hub is built from source unless there is one; that takes a Go of 1.21 or later.
go_missing=no
if [ "${1:-all}" != build ] && ! "$root/tools/hub-binary" --possible; then
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
    exec sudo "$root/tools/deps.sh" "$@"
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

export DEBIAN_FRONTEND=noninteractive
apt_install() {
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >"$temporary/apt.log" 2>&1 || {
        tail -n 20 "$temporary/apt.log" >&2
        fail "apt-get could not install: $*"
    }
}

no_cluster() { # postgresql-common alone makes none; its setting must stand before the server comes
    apt_install postgresql-common
    cp -p "$cluster_conf" "$temporary/createcluster.conf"
    echo 'create_main_cluster = false' >>"$cluster_conf"
}

install_missing() {
    local fresh=() unit
    echo "deps: installing ${missing[*]}"
    apt-get update -qq
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

# Debian 12's Go is too old; its backports have one. They are used for this one package, through a
# list of sources that exists only here.
install_go() {
    local archive sources=$temporary/sources
    echo "deps: installing golang-go"
    if [ "$codename" != bookworm ]; then
        apt-get update -qq
        apt_install golang-go
        return
    fi
    # shellcheck disable=SC2016 # apt expands it
    archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
        'Codename: bookworm' 2>/dev/null | head -n 1)
    mkdir "$sources"
    cp -r /etc/apt/sources.list.d/. "$sources"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
        "${archive:-http://deb.debian.org/debian} bookworm-backports main" >"$sources/backports.list"
    apt-get update -qq -o Dir::Etc::sourceparts="$sources"
    apt_install -o Dir::Etc::sourceparts="$sources" -t bookworm-backports golang-go
}

[ ${#missing[@]} -eq 0 ] || install_missing
[ $go_missing = no ] || install_go
