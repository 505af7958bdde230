#!/bin/sh
# The kernels without an engine: builds them and their tests, runs them on the device beside the simulator, and writes
# DIR/kernels.json (what came of each step) and DIR/kernel-bench.json. usage: kernel_check.sh [--simulated] DIR
#   --simulated: the simulator's build alone, a few tests, no bench
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
simulated=no
if [ "${1:-}" = --simulated ]; then simulated=yes; shift; fi
out=${1:?usage: kernel_check.sh [--simulated] DIR}
sim="$root/build/cuda-sim" gpu="$root/build/cuda"
jobs=${OCTAVO_JOBS:-$(nproc 2>/dev/null || echo 4)}
small="embed rms_norm add softcap copy_pages rope int4_repack int4_linear_layouts int4_linear_silu dense_linear_shapes
  attention_decode attention_group attention_shared sample_keeps sample_ties sample_penalties sample_nothing sample_replayed"
mkdir -p "$out"
steps="" failed=no
record() {
  steps="$steps${steps:+, }\"$1\": \"$2\""
  printf '{"steps": {%s}}\n' "$steps" >"$out/kernels.json"
}
# step NAME COMMAND...: its output in DIR/NAME.log, and here where it fails.
step() {
  name=$1
  shift
  if "$@" >"$out/$name.log" 2>&1; then
    record "$name" passed
    echo "passed  $name"
  else
    record "$name" "failed ($?)"
    echo "FAILED  $name"
    tail -n 40 "$out/$name.log"
    failed=yes
  fi
}

build_simulator() {
  mkdir -p "$sim"
  cmake -S "$root/kernels/cuda" -B "$sim" -DOCTAVO_CUDA=OFF && cmake --build "$sim" --target cuda_golden cuda_tests -j "$jobs"
}
build_device() { OCTAVO_JOBS=$jobs sh "$root/kernels/cuda/build.sh" cuda_tests cuda_golden cuda_bench; }
compare_golden() {
  "$sim/cuda_golden" >"$out/golden.sim.txt" && "$gpu/cuda_golden" >"$out/golden.gpu.txt" &&
    cmp "$out/golden.sim.txt" "$out/golden.gpu.txt"
}
long_tests() { OCTAVO_LONG=1 "$gpu/cuda_tests"; }

if [ $simulated = yes ]; then
  step build-simulator build_simulator
  step simulator-tests "$sim/cuda_tests" embed add sample_replayed
else
  step build build_device
  step build-simulator build_simulator
  step golden compare_golden
  step tests long_tests
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      # The names are words of a list.
      # shellcheck disable=SC2086
      step "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$gpu/cuda_tests" $small
    done
  else
    record compute-sanitizer "absent: it is not installed"
  fi
  step bench "$gpu/cuda_bench" "$out/kernel-bench.json"
fi
[ $failed = no ]
