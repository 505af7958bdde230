#!/bin/sh
# Builds liboctavo_cuda.so for sm_86 (A6000) and sm_90a (H100, H200) with static cudart, puts it beside the addon, and checks what
# ptxas reports: registers of every kernel as a table, no spills, static shared memory within a block's limit (dynamic
# shared memory is checked at compile time, see kMostSharedBytes). Needs nvcc and CMake, no GPU.
# usage: kernels/cuda/build.sh [extra CMake targets, for example cuda_tests cuda_bench cuda_golden]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${OCTAVO_CUDA_BUILD:-"$root/build/cuda"}
mkdir -p "$build"
cmake -S "$root/kernels/cuda" -B "$build" -DOCTAVO_CUDA=ON \
  -DCMAKE_CUDA_COMPILER_LAUNCHER="$root/kernels/cuda/nvcc_logged.sh" >"$build/configure.log" 2>&1 || { cat "$build/configure.log"; exit 1; }
cmake --build "$build" --target octavo_library "$@" -j "${OCTAVO_JOBS:-2}" >"$build/build.log" 2>&1 || { cat "$build/build.log"; exit 1; }
# The reports of the files that exist now; an object of a deleted one may still lie there.
for kernel in "$root"/kernels/cuda/*.cu; do
  cat "$build/CMakeFiles/octavo_cuda.dir/$(basename "$kernel").o.ptxas"
done >"$build/ptxas.log"
status=0
"$root/kernels/cuda/ptxas_report.sh" "$build/ptxas.log" >"$build/ptxas.md" || status=$?
cat "$build/ptxas.md"
echo
ls -l "$build/liboctavo_cuda.so"
if [ -d "$root/build/Release" ]; then cp "$build/liboctavo_cuda.so" "$root/build/Release/"; fi
exit $status
