#!/bin/sh
# Builds what changed and runs the kernel tests; arguments: parts of the names of tests. ASAN=1: with sanitizers.
set -e
cd "$(dirname "$0")/../.."
make -s -j2 -f test/kernels/Makefile ${ASAN:+ASAN=$ASAN}
# A refused allocation is tested: the sanitizer must return null as calloc does.
export ASAN_OPTIONS=allocator_may_return_null=1
exec "build/kernel-tests${ASAN:+-asan}/kernel-tests" "$@"
