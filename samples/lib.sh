# shellcheck shell=sh disable=SC2034,SC2154  # variables come from, and go to, the script that sources this
# What the scripts of samples/ and tests/ share; sourced by them, never run. POSIX sh.
# The caller sets `root` (the project's folder) before it sources this file. Gives:
#   say, die               a line for the user; an error line and the end
#   need WORD...           installs what is missing, with apt-get. A WORD is a Debian package, or COMMAND:PACKAGE,
#                          which is there already when COMMAND is in the path, wherever it came from
#   build_preset NAME      configures (once) and builds build/NAME; prints only when there is something to do
#   smelt_or_die           sets `smelt` to the compiler: $SMELT, or the release build
# BUILD_NEEDS and CROSS_NEEDS are the words for `need`.

BUILD_NEEDS="cmake:cmake ninja:ninja-build gcc:gcc libc6-dev pkg-config:pkg-config llvm-19-dev
    libprotobuf-c-dev protoc-c:protobuf-c-compiler libopenblas-dev zlib1g-dev
    libjpeg-dev libpng-dev libtiff-dev libwebp-dev libopenjp2-7-dev"
CROSS_NEEDS="aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-aarch64-static:qemu-user-static"

say() { printf '%s\n' "$*"; }
die() { printf '%s: error: %s\n' "${0##*/}" "$*" >&2; exit 1; }

has_package() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'
}

need() {
    missing=
    for word in "$@"; do
        case $word in
            *:*) command -v "${word%%:*}" >/dev/null 2>&1 || missing="$missing ${word#*:}" ;;
            *)   has_package "$word" || missing="$missing $word" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 ||
        die "apt-get is not here; install these yourself and run this again:$missing"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || die "not root, and no sudo. As root: apt-get install$missing"
        as_root=sudo
    fi
    say "installing:$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of words on purpose
    if ! { $as_root apt-get -q update &&
           $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
               install --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        die "apt-get could not install:$missing (the whole log: $log)"
    fi
    rm -f "$log"
}

build_preset() {
    dir=$root/build/$1
    if [ ! -f "$dir/build.ninja" ]; then
        say "configuring build/$1"
        mkdir -p "$dir"
        (cd "$root" && cmake --preset "$1") >"$dir/configure.log" 2>&1 || {
            tail -n 20 "$dir/configure.log" >&2
            die "cmake could not configure build/$1 (the whole log: build/$1/configure.log)"
        }
    fi
    if ! ninja -C "$dir" -n | grep -q 'no work to do'; then
        say "building build/$1 (a minute or two the first time)"
    fi
    ninja -C "$dir" >"$dir/build.log" 2>&1 || {
        tail -n 40 "$dir/build.log" >&2
        die "the build of build/$1 failed (the whole log: build/$1/build.log)"
    }
}

smelt_or_die() {
    smelt=${SMELT:-$root/build/release/driver/smelt}
    [ -x "$smelt" ] || die "the compiler is not built ($smelt); sh samples/quickstart.sh builds it"
}
