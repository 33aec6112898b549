#!/bin/sh
# All of ONNX's backend tests through the compiled path (LLVM), then through --backend=c, then through the interpreter.
# Prints passed / failed / refused by operator for each. On two cores a minute, three and one; a third of the cases
# runs in tests/run.sh. Needs what tests/run.sh made: the release build and build/venv.
#
#     sh tests/conformance.sh                      all three backends
#     sh tests/conformance.sh llvm [FILTER...]     one of them; filters as in tests/conformance.py --help
set -eu
cd "$(dirname "$0")/.."
python=build/venv/bin/python
[ -x "$python" ] && [ -x build/release/driver/smelt ] || { echo "first: sh tests/run.sh" >&2; exit 1; }
if [ $# -gt 0 ]; then
    backend=$1
    shift
    exec "$python" tests/conformance.py --backend="$backend" "$@"
fi
status=0
for backend in llvm c interpret; do
    "$python" tests/conformance.py --backend=$backend || status=1
done
exit $status
