#!/bin/sh
# Installs smelt into a temporary prefix, builds the CMake project of this folder against it and only it, and compares
# the program's answers with onnxruntime's.
#
#     sh samples/cmake/run.sh               (SMELT_BUILD=... for another build folder than build/release)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=samples/lib.sh
. "$root/samples/lib.sh"
smelt_or_die

prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
trap 'exit 1' HUP INT TERM
out=$root/build/samples/cmake
mkdir -p "$out"
quietly() {                                 # the output only when it fails
    "$@" >"$out/log.txt" 2>&1 || { tail -n 30 "$out/log.txt" >&2; die "failed: $*"; }
}

quietly cmake --install "${SMELT_BUILD:-$root/build/release}" --prefix "$prefix"
rm -rf "$out/build"                         # its cache names the last run's prefix
quietly cmake -S "$here" -B "$out/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix"
quietly cmake --build "$out/build"
"$out/build/digits_reader" --list >"$out/answers.txt"
cmp -s "$out/answers.txt" "$root/samples/digits/expected.txt" || {
    diff "$root/samples/digits/expected.txt" "$out/answers.txt" | head -n 10 >&2 || true
    die "the answers differ from onnxruntime's (above: < expected, > ours)"
}
say "find_package(smelt), smelt_add_model: $(tail -n 1 "$out/answers.txt"), all answers are onnxruntime's"
