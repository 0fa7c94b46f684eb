# Functions that the scripts of deploy/ share; read with `.`, not run.

complain() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
give_up() {
    complain "$@"
    exit 1
}

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        give_up "this needs root: $* (run it as root, or install sudo and allow $(id -un) to use it)"
    fi
}

# Asks for sudo's password, if it wants one, now and not in the middle of the work.
authorize() { as_root true; }

# Folders with administrators' programs are not in every user's PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# The newest PostgreSQL installed here: the folder with its initdb, or nothing.
postgres_programs() {
    local initdb
    initdb=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -t / -k 5 -n | tail -n 1)
    [ -z "$initdb" ] || dirname "$initdb"
}

require_swift() {
    command -v swift >/dev/null || give_up "no Swift toolchain in PATH; Swift 6.2 or later is needed," \
        "see https://www.swift.org/install/linux/ (Debian 12)"
}

# Where `build_release` leaves the programs.
release_folder() { printf '%s/.build/release' "$project"; }

# Builds the release programs: Swift's libraries inside, no symbols.
build_release() {
    require_swift
    local product
    for product in "$@"; do
        (cd "$project" && swift build -c release --static-swift-stdlib -Xlinker -s --product "$product")
    done
}

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
