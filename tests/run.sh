#!/bin/sh
# Everything there is to test, from a bare Debian 12: builds the release compiler and runs the first sample
# (samples/quickstart.sh), installs what the tests need, fills the test models, builds with verification and with the
# sanitizers, runs the unit tests (ctest), the other samples, and every suite of tests/run.py. About half an hour on two
# cores; the second time only what is left to do is installed and built.
#
#     sh tests/run.sh                  exit status 0 only if nothing failed
#     SMELT_MODELS=DIR sh tests/run.sh take materialize.py and the model skeletons from DIR (default ../shared/models)
#
# The last line is `N passed, N failed, N skipped`: each unit test, sample and case counts as one.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=samples/lib.sh
. "$root/samples/lib.sh"
cd "$root"

n_passed=0 n_failed=0 n_skipped=0
count() {                                   # adds the figures of a closing line, "N passed, N failed, N skipped"
    n_passed=$((n_passed + $1)) n_failed=$((n_failed + $3)) n_skipped=$((n_skipped + $5))
}
step() {                                    # step NAME COMMAND...: one pass or failure
    name=$1
    shift
    say "== $name"
    if "$@"; then n_passed=$((n_passed + 1)); else n_failed=$((n_failed + 1)); say "FAIL  $name"; fi
}
unit_tests() {                              # ctest of a build folder, counted one by one; run.py does the style suite
    say "== ctest, build/$1"
    results=$root/build/$1/results.xml
    rm -f "$results"
    ctest --test-dir "$root/build/$1" -E "^style$" -j 2 --timeout 300 --output-on-failure --output-junit "$results" || true
    [ -f "$results" ] || { n_failed=$((n_failed + 1)); say "FAIL  ctest did not run in build/$1"; return 0; }
    # shellcheck disable=SC2046  # five words on purpose
    count $(tr '\n' ' ' <"$results" | sed 's/.*<testsuite \([^>]*\)>.*/\1/' | awk '{
        for (i = 1; i <= NF; i++) if (split($i, kv, "=")) { gsub("\"", "", kv[2]); v[kv[1]] = kv[2] + 0 }
        s = v["skipped"] + v["disabled"]
        printf "%d passed, %d failed, %d skipped", v["tests"] - v["failures"] - s, v["failures"], s }')
}

close() {
    say "$n_passed passed, $n_failed failed, $n_skipped skipped"
    [ "$n_failed" = 0 ]
}
build() ( build_preset "$1" )               # in a subshell: a failure is counted, and does not end the run

step "samples/quickstart" sh samples/quickstart.sh
[ -x build/release/driver/smelt ] || { close; exit 1; }

# shellcheck disable=SC2086  # a list of words on purpose
need $CROSS_NEEDS g++:g++ python3:python3 python3-venv clang-19:clang-19 libclang-rt-19-dev valgrind:valgrind libc6-dbg \
    binutils /usr/bin/time:time locales \
    arm-linux-gnueabihf-gcc:gcc-arm-linux-gnueabihf libc6-dev-armhf-cross \
    riscv64-linux-gnu-gcc:gcc-riscv64-linux-gnu libc6-dev-riscv64-cross

venv=$root/build/venv
if ! cmp -s tests/requirements.txt "$venv/requirements.txt"; then
    say "installing the Python packages of tests/requirements.txt into build/venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt ||
        die "pip could not install tests/requirements.txt"
    cp tests/requirements.txt "$venv/requirements.txt"
fi

shared=${SMELT_MODELS:-$root/../shared/models}
if [ -f "$shared/materialize.py" ]; then
    mkdir -p build/models
    for name in $("$venv/bin/python" "$shared/materialize.py" --list); do
        [ -f "build/models/$name.outputs.npz" ] && continue
        say "filling the weights of $name"
        "$venv/bin/python" "$shared/materialize.py" "$name" -o build/models >/dev/null
    done
else
    say "NOTE: $shared/materialize.py is absent: whole models are skipped, in the suites models, bits, cross and cost"
fi

for preset in dev asan; do
    step "build/$preset" build $preset
    unit_tests $preset
done

step "samples/cross" sh samples/cross/run.sh
step "samples/cmake" sh samples/cmake/run.sh

labels="--label nodev --label cpu --label slow"
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
    labels="$labels --label gpu"
fi
# The text tests once more with the compiler that verifies after every pass; then everything with the release build.
for compiler in dev release; do
    say "== run.py, build/$compiler"
    filters=
    [ "$compiler" = release ] || filters="ir_text"
    log=$root/build/run-$compiler.log
    # shellcheck disable=SC2086  # lists of words on purpose
    { "$venv/bin/python" -u tests/run.py $filters $labels --smelt "build/$compiler/driver/smelt" 2>&1 || true; } | tee "$log" |
        sed -E 's/^([0-9]+ passed, )/   \1/'         # only the sum stands alone on a line
    closing=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
    # shellcheck disable=SC2086  # six words on purpose
    if [ -n "$closing" ]; then count $closing; else n_failed=$((n_failed + 1)); say "FAIL  run.py did not finish"; fi
done

close
