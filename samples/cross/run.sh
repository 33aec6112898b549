#!/bin/sh
# The digits sample for another chip: compiled and linked here for 64-bit ARM, run under qemu, compared with
# onnxruntime's answers. Installs the cross compiler and qemu when they are missing.
#
#     sh samples/cross/run.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=samples/lib.sh
. "$root/samples/lib.sh"
smelt_or_die
# shellcheck disable=SC2086  # a list of words on purpose
need $CROSS_NEEDS

digits=$root/samples/digits
out=$root/build/samples/cross
mkdir -p "$out"
cd "$out"
"$smelt" "$digits/digits.onnx" --target=aarch64-linux-gnu
aarch64-linux-gnu-gcc -static -std=c99 -Wall -Wextra -O2 -I. -I"$digits" -I"$root/runtime/include" \
    "$digits/main.c" libdigits.a -lm -o digits
qemu-aarch64-static ./digits
qemu-aarch64-static ./digits --list >answers.txt
cmp -s answers.txt "$digits/expected.txt" || {
    diff "$digits/expected.txt" answers.txt | head -n 10 >&2 || true
    die "the answers differ from onnxruntime's (above: < expected, > ours)"
}
say "all answers are onnxruntime's, on 64-bit ARM"
