#!/bin/sh
# Builds the CUDA backend for the host simulator (--device cuda-sim) and runs its kernels' tests.
# usage: test/cuda/run.sh [--asan] [test name prefix]...      OCTAVO_LONG=1: the long tests too
set -eu
command -v cmake >/dev/null || { echo "test/cuda: skipped: the simulator's suite is built with CMake, which is not installed"; exit 0; }
root=$(cd "$(dirname "$0")/../.." && pwd)
asan=OFF
if [ "${1:-}" = --asan ]; then asan=ON; shift; fi
build="$root/build/cuda-sim"
[ $asan = ON ] && build="$build-asan"
mkdir -p "$build"
{
  cmake -S "$root/kernels/cuda" -B "$build" -DOCTAVO_CUDA=OFF -DOCTAVO_ASAN=$asan &&
  cmake --build "$build" --target cuda_tests octavo_library -j "${OCTAVO_JOBS:-2}"
} >"$build/build.log" 2>&1 || { cat "$build/build.log"; exit 1; }
# The addon looks for it beside itself.
[ $asan = ON ] || [ ! -d "$root/build/Release" ] || cp "$build/liboctavo_cuda-sim.so" "$root/build/Release/"
# Kernels leave their fibers' stacks behind after a fault: nothing that a leak check could judge.
ASAN_OPTIONS=detect_leaks=0 "$build/cuda_tests" "$@"
