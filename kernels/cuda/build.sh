#!/bin/sh
# Builds build/cuda/liboctavo_cuda.so for sm_86 (A6000) and sm_90a (H100, H200) with static cudart, and checks what
# ptxas reports: registers of every kernel as a table, no spills, static shared memory within a block's limit (dynamic
# shared memory is checked at compile time, see kMostSharedBytes). Needs nvcc and CMake, no GPU.
# usage: kernels/cuda/build.sh [extra CMake targets, for example cuda_tests cuda_bench cuda_golden]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build="$root/build/cuda"
mkdir -p "$build"
cmake -S "$root/kernels/cuda" -B "$build" -DOCTAVO_CUDA=ON >"$build/configure.log" 2>&1 || { cat "$build/configure.log"; exit 1; }
# Kept between builds: an unchanged file reports nothing, so the table is made from the newest report of each.
cmake --build "$build" --target octavo_cuda "$@" -j "${OCTAVO_JOBS:-2}" >"$build/build.log" 2>&1 || { cat "$build/build.log"; exit 1; }
cat "$build/build.log" >>"$build/ptxas.log"
"$root/kernels/cuda/ptxas_report.sh" "$build/ptxas.log" | tee "$build/ptxas.md"
echo
ls -l "$build/liboctavo_cuda.so"
