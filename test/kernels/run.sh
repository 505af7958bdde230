#!/bin/sh
# Builds what changed and runs the kernel tests; arguments: parts of the names of tests. ASAN=1: with sanitizers.
set -e
cd "$(dirname "$0")/../.."
make -s -j2 -f test/kernels/Makefile ${ASAN:+ASAN=$ASAN}
exec "build/kernel-tests${ASAN:+-asan}/kernel-tests" "$@"
