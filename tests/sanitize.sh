#!/usr/bin/env bash
# The tests of the kernels with ThreadSanitizer, then with AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.
# The kernels are built from a copy of the sources, so nothing of it stays in the checkout or in its environment. Any report
# ends the run. Needs GCC with its sanitizer libraries; SANITIZERS chooses.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OPENBLAS_NUM_THREADS=1  # NumPy's own threads are not instrumented
export ASAN_OPTIONS=detect_leaks=0  # the interpreter keeps memory until it ends
export TSAN_OPTIONS=halt_on_error=1 UBSAN_OPTIONS=print_stacktrace=1

check() {  # check SANITIZERS RUNTIME PYTEST-ARGUMENTS...: builds, then runs pytest with the runtime loaded first
    local name=$1 runtime=$2 site=$work/site-$1
    shift 2
    rm -rf "$work/source"
    mkdir "$work/source"
    cp -r aaecore kernels setup.py pyproject.toml MANIFEST.in README.md LICENSE "$work/source"
    rm -f "$work"/source/kernels/*.so
    echo "$name: building"
    AAECORE_CXXFLAGS="-g1 -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=$name" \
        $python -m pip install -q --disable-pip-version-check --no-deps --target "$site" "$work/source"
    echo "$name: testing"
    LD_PRELOAD=$(gcc -print-file-name="$runtime") PYTHONPATH=$site \
        $python -P -c 'import aaecore.kernels.cpu as k, sys; sys.exit(not k.__file__.startswith(sys.argv[1]))' "$site"
    LD_PRELOAD=$(gcc -print-file-name="$runtime") PYTHONPATH=$site $python -P -m pytest -q -p no:cacheprovider "$@"
}

[[ ${SANITIZERS:-thread} == *thread* ]] &&
    check thread libtsan.so tests/test_ops.py tests/test_training.py \
        -k "threads_give_the_same_bits or several_threads or two_models_in_two_threads or large_batches"
[[ ${SANITIZERS:-address} == *address* ]] &&
    check address,undefined libasan.so tests/test_ops.py -k "agrees_with_the_reference or threads_give_the_same_bits"
echo "no reports"
