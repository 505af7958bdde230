#!/bin/sh
# On a machine with a GPU: everything that the simulator can't tell, in parts, each with a time limit (seconds below), each
# writing JSON to the output folder; then a summary with the targets. It needs no network.
#
#   kernels  420  build; simulator against device byte for byte; kernel tests; compute-sanitizer on small ones; kernel bench
#   models   100  golden models on the device (OCTAVO_GOLDEN, default ../shared/models)
#   logits   210  a checkpoint of random weights in the shape of Llama-3.1-8B, written here: log-probabilities against
#                 transformers in fp32 over the same file (without transformers: the same forward pass in plain PyTorch)
#   bench    400  prefill and decoding at the shapes of Llama-3.1-8B and Qwen2.5-7B, INT4, batch 1, 16, 64, 256, 1k in and
#                 256 out, beside the floors of this device's own ceilings (measured first);
#                 prefill under --no-batch-invariant
#   serve    210  the same over HTTP and in `bench throughput`, at batch 1, 16, 64; from `octavo serve` to the first answer
#   idle     100  what of a decoding step the device idles, one step ahead and not
#   peers    270  transformers generate; llama.cpp where --llama-bench and --gguf name its CUDA build and a model
#   summary   30  tables and targets of what lies in the output folder; non-zero where a result is wrong
#
# kernels needs CUDA and CMake; logits, peers and the floors need python3 with PyTorch; all but kernels and peers need Node
# with the built project, or OCTAVO=path of an unpacked bundle's octavo.
#
# usage: kernels/cuda/gpu_check.sh [--part NAME[,NAME...]]... [--out DIR] [--llama-bench FILE --gguf FILE] [--tiny]
#   --out   default build/gpu-check        --tiny  all parts on the simulator (cuda-sim), at a shape that takes a minute
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
out="$root/build/gpu-check" parts="" device=cuda tiny=no llama_bench="" gguf=""
usage() { echo "gpu_check: $1" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --tiny) tiny=yes; shift; continue ;;
    --part | --out | --llama-bench | --gguf) [ $# -gt 1 ] || usage "$1: expected a value, got none" ;;
    *) usage "expected --part, --out, --llama-bench, --gguf or --tiny, got $1" ;;
  esac
  case $1 in
    --part) parts="$parts $(echo "$2" | tr ',' ' ')" ;;
    --out) out=$2 ;;
    --llama-bench) llama_bench=$2 ;;
    --gguf) gguf=$2 ;;
  esac
  shift 2
done
parts=${parts:-kernels models logits bench serve idle peers summary}
limit_of() {
  case $1 in
    kernels) echo 420 ;;
    bench) echo 400 ;;
    peers) echo 270 ;;
    logits | serve) echo 210 ;;
    models | idle) echo 100 ;;
    summary) echo 30 ;;
    *) return 1 ;;
  esac
}
for part in $parts; do
  limit_of "$part" >/dev/null ||
    usage "--part: expected kernels, models, logits, bench, serve, idle, peers or summary, got $part"
done
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)

# A part runs as this script again, so that `timeout` ends all that it started when its time is up.
if [ -z "${GPU_CHECK_PART:-}" ]; then
  if [ $tiny = no ]; then
    command -v nvidia-smi >/dev/null || { echo "gpu_check: no nvidia-smi: this needs a GPU (--tiny: the simulator)" >&2; exit 1; }
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    set --
  else
    set -- --tiny
  fi
  [ -z "$llama_bench" ] || set -- "$@" --llama-bench "$llama_bench"
  [ -z "$gguf" ] || set -- "$@" --gguf "$gguf"
  failed=""
  for part in $parts; do
    printf '\n== %s\n' "$part"
    limit=$(limit_of "$part")
    GPU_CHECK_PART=$part timeout -k 10 "$limit" sh "$0" --out "$out" "$@"
    status=$?
    [ $status -ne 124 ] || echo "gpu_check: $part took more than $limit s" >&2
    [ $status -eq 0 ] || failed="$failed $part"
  done
  [ -z "$failed" ] || { echo "gpu_check: failed:$failed" >&2; exit 1; }
  exit 0
fi

if [ $tiny = yes ]; then
  device=cuda-sim torch_device=cpu first_shape=tiny
  input_len=12 output_len=6 batches=1,4 served=1,4 small=--small
  set -- --shapes tiny --num-iters 1
else
  torch_device=cuda first_shape=Llama-3.1-8B
  input_len=1024 output_len=256 batches=1,16,64,256 served=1,16,64 small=""
  set -- --shapes Llama-3.1-8B Qwen2.5-7B --num-iters 2
fi
set -- "$@" --input-len $input_len --output-len $output_len
peer="$root/bench/device/device_peer.py"
checkpoints="$out/checkpoints"

octavo() {
  if [ -n "${OCTAVO:-}" ]; then
    "$OCTAVO" "$@"
  elif command -v node >/dev/null && [ -f "$root/dist/src/cli/main.js" ]; then
    node "$root/dist/src/cli/main.js" "$@"
  else
    echo "gpu_check: no Node with a built project, and OCTAVO names no bundle's octavo" >&2
    return 1
  fi
}

# Python with PyTorch: the first of these that has it.
find_python() {
  for python in "${PYTHON:-python3}" /usr/bin/python3; do
    "$python" -c "import torch" 2>/dev/null && return 0
  done
  echo "gpu_check: no python3 with PyTorch (PYTHON=path): no ceilings, reference or peers" >&2
  return 1
}

measure() { octavo bench device --device "$device" --output-dir "$out" "$@"; }

ceilings() {
  [ -f "$out/ceilings.json" ] || { find_python && "$python" "$peer" ceilings --device $torch_device $small --output "$out/ceilings.json"; }
}

part_kernels() {
  if [ $tiny = yes ]; then sh "$root/kernels/cuda/kernel_check.sh" --simulated "$out"; else sh "$root/kernels/cuda/kernel_check.sh" "$out"; fi
}

part_models() {
  golden=${OCTAVO_GOLDEN:-"$root/../shared/models"}
  [ -d "$golden" ] || { echo "gpu_check: no golden models in $golden (OCTAVO_GOLDEN)" >&2; return 1; }
  measure --parts models --models "$golden"
}

part_logits() {
  find_python || return 1
  measure --parts shapes --shapes $first_shape || return 1
  "$python" "$peer" checkpoint --device $torch_device --shapes "$out/shapes.json" --name $first_shape \
    --directory "$checkpoints/$first_shape" || return 1
  measure --parts models --models "$checkpoints" --models-name logits
}

part_bench() {
  ceilings
  measure --parts latency,prefill --batch-sizes $batches "$@"
}

part_serve() { measure --parts startup,serve,throughput --batch-sizes $served "$@"; }

part_idle() { measure --parts idle --batch-sizes $served "$@"; }

part_peers() {
  find_python || return 1
  "$python" "$peer" generate --device $torch_device --directory "$checkpoints/$first_shape" --output "$out/peers.json" \
    --batch-sizes $batches --input-len "$input_len" --output-len "$output_len" \
    ${llama_bench:+--llama-bench "$llama_bench"} ${gguf:+--gguf "$gguf"}
}

part_summary() { measure --parts summary; }

"part_$GPU_CHECK_PART" "$@"
