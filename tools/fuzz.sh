#!/usr/bin/env bash
# Builds each tests/fuzz/fuzz_NAME.c with clang's libFuzzer and the address and undefined-behaviour
# sanitizers, together with the pure rooms and files, and runs it.
#
#     tools/fuzz.sh [NAME...]            all, or those named
#     FUZZ_SECONDS=5 tools/fuzz.sh       that long each instead of a minute
#
# tests/fuzz/corpus/NAME holds the inputs that are kept; what a run finds on top stays under build/fuzz.
# An input that breaks something is written to build/fuzz/NAME-crash-...: run `build/fuzz/NAME FILE` to
# see it again, mend the code, and add the file to the corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
out=build/fuzz

command -v clang >/dev/null || {
    echo "fuzz: clang is missing: run \`make deps\`" >&2
    exit 1
}

flags=(-std=gnu11 -g -O1 -D_GNU_SOURCE -DMQTT_BRIDGE_VERSION='"fuzz"' -I.
    -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
mkdir -p "$out/objects"
objects=()
for source in common/base/*.c common/wire/*.c common/settings/*.c monitor/{connections,request}.c \
    supervisor/{control,files}.c; do
    [ -f "$source" ] || continue
    object=$out/objects/${source//\//-}.o
    clang "${flags[@]}" -fsanitize=fuzzer-no-link,address,undefined -c -o "$object" "$source"
    objects+=("$object")
done

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        [ -f "$source" ] || continue
        name=${source#tests/fuzz/fuzz_}
        names+=("${name%.c}")
    done
fi
broken=()
for name in "${names[@]}"; do
    clang "${flags[@]}" -fsanitize=fuzzer,address,undefined -o "$out/$name" \
        "tests/fuzz/fuzz_$name.c" "${objects[@]}" -lcjson -lm
    mkdir -p "$out/found/$name" "tests/fuzz/corpus/$name"
    if "$out/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$out/$name-" "$out/found/$name" "tests/fuzz/corpus/$name" \
        >"$out/$name.log" 2>&1; then
        echo "fuzz: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log") runs, nothing found"
    else
        tail -n 60 "$out/$name.log"
        echo "fuzz: $name: FAILED, see above and build/fuzz/$name.log" >&2
        broken+=("$name")
    fi
done
[ ${#broken[@]} -eq 0 ]
