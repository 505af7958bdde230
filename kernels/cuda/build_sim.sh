#!/bin/sh
# Builds liboctavo_cuda-sim beside the addon: the CUDA backend with its kernels in the host simulator, for
# --device cuda-sim. Needs CMake and a C++17 compiler, neither CUDA nor a GPU.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build="$root/build/cuda-sim"
mkdir -p "$build" "$root/build/Release"
{
  cmake -S "$root/kernels/cuda" -B "$build" -DOCTAVO_CUDA=OFF &&
  cmake --build "$build" --target octavo_library -j "${OCTAVO_JOBS:-2}"
} >"$build/library.log" 2>&1 || { cat "$build/library.log"; exit 1; }
cp "$build/liboctavo_cuda-sim.so" "$root/build/Release/"
