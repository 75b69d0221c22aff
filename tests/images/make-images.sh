#!/usr/bin/env bash
# Sees to it that the public images which compose.yaml and the Dockerfile name are there: one that this
# machine has is used; else it is pulled; else, where no registry can be reached, a stand-in of the same
# name is made from Debian 13's packages and the hub's source (tests/hub).
#
#     tests/images/make-images.sh            minutes the first time it has to make them, then a second
#     tests/images/make-images.sh --force    makes the stand-ins anew
#
# The stand-ins have the settings, paths, ports and users of the public images as far as compose.yaml uses
# them, and the label mqtt-bridge.stand-in, by which one that is out of date is known; an image without it
# is never replaced. Debian's packages come from where this machine's own come from. Needs root, Docker,
# debootstrap, and Go for the hub.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
label=mqtt-bridge.stand-in
base=debian:trixie-slim
# image=folder of its stand-in
images=(eclipse-mosquitto:2.0=mosquitto redis:8.0=redis postgres:17.6=postgres dunglas/mercure:v0.24=mercure)

fail() {
    echo "images: $1" >&2
    exit 1
}

command -v docker >/dev/null || fail "docker is missing: apt-get install docker.io"
docker version >/dev/null 2>&1 || fail "the Docker daemon does not answer: systemctl start docker"
force=no
[ "${1:-}" != --force ] || force=yes
mkdir -p "$root/build"
exec 9>"$root/build/images.lock"
flock 9
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What a stand-in was made from; empty for a public image, "none" where there is no such image.
made_from() { # IMAGE
    docker image inspect --format "{{with .Config.Labels}}{{index . \"$label\"}}{{end}}" "$1" 2>/dev/null ||
        echo none
}

registry=unknown
pull() { # IMAGE; a registry that did not answer is not asked again
    [ $registry != no ] || return 1
    echo "images: pulling $1" >&2
    if timeout 600 docker pull --quiet "$1" >"$work/pull.log" 2>&1; then
        return 0
    fi
    registry=no
    echo "images: $(tail -n 1 "$work/pull.log")" >&2
    return 1
}

# Where this machine's own packages come from: Debian, or Debian-Security.
archive_of() { # LABEL
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" 'Component: main' |
        head -n 1
}

write_sources() { # ARCHIVE; how apt reaches it (a proxy, say) as well
    local archive=$1 security
    security=$(archive_of Debian-Security)
    {
        echo "deb $archive trixie main"
        echo "deb $archive trixie-updates main"
        [ -z "$security" ] || echo "deb $security trixie-security main"
    } >"$work/root/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(https?|Retries|ForceIPv[46]|Check-Date|Check-Valid-Until)\b' \
        >"$work/root/etc/apt/apt.conf.d/90host" || true
}

make_base() {
    local archive
    command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
    archive=$(archive_of Debian)
    [ -n "$archive" ] || fail "apt knows no Debian archive: apt-get update"
    echo "images: making $base" >&2
    debootstrap --variant=minbase trixie "$work/root" "$archive" >"$work/debootstrap.log" 2>&1 || {
        tail -n 5 "$work/debootstrap.log" >&2
        fail "debootstrap could not make $base"
    }
    write_sources "$archive"
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
    tar -C "$work/root" -c . |
        docker import --change 'CMD ["bash"]' --change "LABEL $label=$1" - "$base" >/dev/null
    rm -rf "$work/root"
}

make_image() { # IMAGE FOLDER KEY
    local image=$1 folder=$2 key=$3 context=$work/$2
    cp -r "$here/$folder" "$context"
    if [ "$folder" = mercure ]; then
        cp "$("$root/tools/hub-binary")" "$context/caddy"
    fi
    echo "images: making $image" >&2
    docker build --label "$label=$key" --tag "$image" "$context" >"$work/build.log" 2>&1 || {
        tail -n 20 "$work/build.log" >&2
        fail "could not make $image"
    }
}

key_of() { # FOLDER
    local files=("$here/$1"/*)
    [ "$1" != mercure ] || files+=("$root"/tests/hub/{main.go,go.mod,go.sum} "$root/tools/hub-binary")
    cat "${files[@]}" | sha256sum | cut -c 1-16
}

is_current() { # IMAGE KEY
    local from
    from=$(made_from "$1")
    [ -z "$from" ] || { [ "$from" = "$2" ] && [ $force = no ]; }
}

base_key=$({ archive_of Debian; archive_of Debian-Security; } | sha256sum | cut -c 1-16)
if ! is_current "$base" "$base_key" && ! pull "$base"; then
    make_base "$base_key"
fi
for pair in "${images[@]}"; do
    image=${pair%=*} folder=${pair##*=}
    key=$(key_of "$folder")
    if ! is_current "$image" "$key" && ! pull "$image"; then
        make_image "$image" "$folder" "$key"
    fi
done
