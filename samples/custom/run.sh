#!/bin/sh
# Compiles a model with operators of our own: two C functions (wave.c) and a function of another model
# (gates.onnx), declared in waves.ops; links it into main.c, which checks the answers.
#
#   samples/custom/run.sh        exit status: 0 the answers are right, 1 they are not
#
# SMELT=PATH uses that compiler instead of the release build.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$root/samples/lib.sh"

smelt_or_die
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$smelt" "$here/waves.onnx" --op-file "$here/waves.ops" -o "$out/libwaves.a"
"${CC:-cc}" -std=c99 -Wall -Wextra -I "$out" "$here/main.c" "$out/libwaves.a" -lm -o "$out/waves"
"$out/waves" >"$out/answers.txt"
cat "$out/answers.txt"
cmp "$out/answers.txt" "$here/expected.txt" || die "the answers are not those of expected.txt"
