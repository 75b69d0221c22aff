#!/usr/bin/env bash
# Every check that needs no running program. Runs all of them, shows what each found and how to mend it.
#
#     tools/lint.sh            all
#     tools/lint.sh format     one of: format sources cppcheck tidy shell python
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

defines=(-D_GNU_SOURCE '-DMQTT_BRIDGE_VERSION="lint"')
failed=()
need() {
    command -v "$1" >/dev/null || {
        echo "lint: $1 is missing: run \`make deps\`" >&2
        return 1
    }
}

files() { # tracked and new files that match, existing ones only
    local name
    git ls-files -co --exclude-standard -- "$@" | sort -u | while read -r name; do
        [ ! -f "$name" ] || echo "$name"
    done
}

scripts_of() { # files whose first line names that interpreter
    local name
    files .ci tools tests | while read -r name; do
        ! head -c 60 "$name" | head -n 1 | grep -qE "^#!.*\b($1)\b" || echo "$name"
    done
}

check_format() {
    local sources
    need clang-format || return
    mapfile -t sources < <(files '*.c' '*.h')
    [ ${#sources[@]} -eq 0 ] || clang-format --dry-run -Werror --ferror-limit=3 "${sources[@]}"
}

check_sources() {
    tools/check-sources
}

check_cppcheck() {
    local sources
    need cppcheck || return
    mapfile -t sources < <(files '*.c' | grep -v '^tests/')
    [ ${#sources[@]} -eq 0 ] || cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 -j 2 \
        --enable=warning,portability,performance --suppress=missingIncludeSystem \
        --suppress=normalCheckLevelMaxBranches "${defines[@]}" -I. "${sources[@]}"
}

# clang's static analyser among others (.clang-tidy), half a second a file and more: what was clean and
# has not changed since, headers included, is not looked at again.
check_tidy() {
    local headers sources
    need clang-tidy || return
    mapfile -t headers < <(files '*.h')
    TIDY_KEY=$(cat .clang-tidy "${headers[@]}" | sha256sum)
    export TIDY_KEY
    mapfile -t sources < <(files '*.c' | grep -v '^tests/')
    [ ${#sources[@]} -eq 0 ] || printf '%s\0' "${sources[@]}" | xargs -0 -n 1 -P "$(nproc)" tools/lint.sh --tidy-one
}

tidy_one() { # FILE
    local stamp=build/tidy/$1.ok key
    key=$(printf '%s' "$TIDY_KEY" | sha256sum - "$1")
    [ "$(cat "$stamp" 2>/dev/null)" != "$key" ] || return 0
    clang-tidy --quiet "$1" -- -std=gnu11 "${defines[@]}" -I. 2>/dev/null || return 1
    mkdir -p "$(dirname "$stamp")"
    echo "$key" >"$stamp"
}

check_shell() {
    local scripts
    need shellcheck || return
    mapfile -t scripts < <(scripts_of 'bash|sh')
    [ ${#scripts[@]} -eq 0 ] || shellcheck "${scripts[@]}"
}

check_python() {
    local scripts
    mapfile -t scripts < <(files '*.py'; scripts_of 'python3')
    /usr/bin/python3 -c 'import pyflakes' 2>/dev/null || {
        echo "lint: python3-pyflakes is missing: run \`make deps\`" >&2
        return 1
    }
    [ ${#scripts[@]} -eq 0 ] || /usr/bin/python3 -m pyflakes "${scripts[@]}"
}

run() { # check, what to do about it
    [ "$only" = all ] || [ "$only" = "$1" ] || return 0
    if "check_$1"; then
        echo "lint: $1 ok"
    else
        echo "lint: $1 FAILED: $2" >&2
        failed+=("$1")
    fi
}

if [ "${1:-}" = --tidy-one ]; then
    tidy_one "$2"
    exit
fi
need git || exit 1
only=${1:-all}
case $only in
all | format | sources | cppcheck | tidy | shell | python) ;;
*)
    echo "lint: unknown check $only" >&2
    exit 2
    ;;
esac
# shellcheck disable=SC2016 # the backquotes are for people
run format 'run `make format`'
run sources 'each line above says what to move, split or rename (the table: tools/check-sources)'
run cppcheck 'mend it, or explain it with a comment "cppcheck-suppress ID" above the line'
run tidy 'mend it; a check that is wrong here takes a // NOLINT(check): why'
run shell 'https://www.shellcheck.net/wiki/SCnnnn explains each code'
run python 'remove what is unused, define what is not'
[ ${#failed[@]} -eq 0 ] || {
    echo "lint: ${#failed[@]} failed: ${failed[*]}" >&2
    exit 1
}
