#!/bin/sh
# From a bare Debian 12 to a first compiled model: installs what the build lacks (apt-get; through sudo unless root),
# builds the compiler into build/release, compiles samples/digits with it and runs the result.
# Running it again does only what is left to do.
#
#     sh samples/quickstart.sh
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=samples/lib.sh
. "$root/samples/lib.sh"

# shellcheck disable=SC2086  # a list of words on purpose
need $BUILD_NEEDS
build_preset release
sh "$root/samples/digits/run.sh"
