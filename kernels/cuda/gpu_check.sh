#!/bin/sh
# On a machine with a GPU, CUDA and CMake: what the simulator can't tell.
#   1. the simulator's primitives and the device's, byte for byte
#   2. every kernel test, compiled by nvcc
#   3. compute-sanitizer (memcheck, racecheck) on the same tests, small shapes
#   4. the kernel bench at real shapes, as JSON
#   5. the whole engine: golden models, then prefill and decoding at the shapes of Llama-3.1-8B and Qwen2.5-7B in INT4,
#      batch 1, 16, 64 and 256, as JSON. Needs Node and the built project, or OCTAVO=path of an unpacked bundle's octavo;
#      golden models are taken from OCTAVO_GOLDEN (default ../shared/models) if they are there.
# Stops at the first failure. usage: kernels/cuda/gpu_check.sh [kernel results, default build/cuda/bench.json] [engine
# results, default build/cuda/device.json]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
result=${1:-"$root/build/cuda/bench.json"}
device_result=${2:-"$root/build/cuda/device.json"}
build="$root/build/cuda"
jobs=$(nproc 2>/dev/null || echo 4)
say() { printf '\n== %s\n' "$1"; }

command -v nvidia-smi >/dev/null || { echo "gpu_check: no nvidia-smi: this needs a GPU" >&2; exit 1; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

say "build"
OCTAVO_JOBS=$jobs "$root/kernels/cuda/build.sh" cuda_tests cuda_golden cuda_bench
sim="$root/build/cuda-sim"
mkdir -p "$sim"
{
  cmake -S "$root/kernels/cuda" -B "$sim" -DOCTAVO_CUDA=OFF && cmake --build "$sim" --target cuda_golden -j "$jobs"
} >"$sim/golden.log" 2>&1 || { cat "$sim/golden.log"; exit 1; }

say "golden: simulator against device"
"$sim/cuda_golden" >"$build/golden.sim.txt"
"$build/cuda_golden" >"$build/golden.gpu.txt"
cmp "$build/golden.sim.txt" "$build/golden.gpu.txt"
echo "identical"

say "kernel tests"
OCTAVO_LONG=1 "$build/cuda_tests"

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    say "compute-sanitizer $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/cuda_tests" \
      embed rms_norm add softcap copy_pages rope int4_repack int4_linear_layouts int4_linear_silu dense_linear_shapes \
      attention_decode attention_group attention_shared sample_keeps sample_ties sample_penalties sample_nothing
  done
else
  echo "gpu_check: compute-sanitizer is not installed: skipped" >&2
fi

say "bench"
"$build/cuda_bench" "$result"
echo "written to $result"

say "engine"
golden=${OCTAVO_GOLDEN:-"$root/../shared/models"}
set -- bench device --device cuda --output-json "$device_result"
if [ -d "$golden" ]; then set -- "$@" --models "$golden"; else echo "gpu_check: no golden models in $golden: not compared" >&2; fi
if [ -n "${OCTAVO:-}" ]; then
  "$OCTAVO" "$@"
elif command -v node >/dev/null && [ -f "$root/dist/src/cli/main.js" ]; then
  node "$root/dist/src/cli/main.js" "$@"
else
  echo "gpu_check: no Node with a built project, and OCTAVO names no bundle's octavo: the engine was not checked" >&2
  exit 1
fi
echo "written to $device_result"
