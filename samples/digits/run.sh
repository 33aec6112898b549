#!/bin/sh
# Compiles digits.onnx into a library and a header, links main.c with it, runs the program, and compares each of its
# 360 answers with onnxruntime's (expected.txt).
#
#     sh samples/digits/run.sh              (SMELT=... for another compiler than build/release's, CC=... for another cc)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=samples/lib.sh
. "$root/samples/lib.sh"
smelt_or_die

out=$root/build/samples/digits
mkdir -p "$out"
cd "$out"
"$smelt" "$here/digits.onnx"                                   # libdigits.a and digits.h
"${CC:-cc}" -std=c99 -Wall -Wextra -O2 -I. -I"$here" -I"$root/runtime/include" "$here/main.c" libdigits.a -lm -o digits
./digits
./digits --list >answers.txt
cmp -s answers.txt "$here/expected.txt" || {
    diff "$here/expected.txt" answers.txt | head -n 10 >&2 || true
    die "the answers differ from onnxruntime's (above: < expected, > ours)"
}
say "all answers are onnxruntime's"
