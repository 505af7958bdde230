#!/usr/bin/env python3
"""Plants one bug at a time in a copy of the kernels and runs that kernel's tests in the simulator.

usage: kernels/cuda/mutate.py [substring of a mutant's name]...

Exits with 1 unless at least 90 % are caught: tests fail, the process crashes or hangs. Each mutant is a file, a text
in it (its first occurrence) and its replacement.

Not planted, because no simulator of this kind can see them: weak memory ordering (a dropped fence, a relaxed counter),
a syncWarp beside a collective, rounding inside the tensor cores, bank conflicts outside of matrix loads, speed.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "cuda-mutants"
SECONDS = 120  # for one mutant's tests; the whole suite of a kernel takes a few

# name, file, text, replacement, test name prefixes
MUTANTS = [
    ("linear: dropped barrier of the pipeline", "linear.h", "    syncThreads();  // step's copies", "    // step's copies", "int4_linear dense"),
    ("linear: wait for one group too few", "linear.h", "waitCopies<kStages - 2>", "waitCopies<kStages - 1>", "int4_linear dense"),
    ("linear: missing guard of the last columns", "linear.h", "  if (column >= call.outWidth) return;\n", "", "int4_linear dense"),
    ("linear: missing guard of the last rows", "linear.h", "      if (row >= call.rows) continue;\n", "", "int4_linear dense"),
    ("linear: merge skips the first segment", "linear.h", "for (int s = 0; s < segments; ++s, from", "for (int s = 1; s < segments; ++s, from", "int4_linear dense"),
    ("linear: an earlier block merges", "linear.h", "atomicAdd(counter, 1) == count - 1", "atomicAdd(counter, 1) == count - 2", "int4_linear dense"),
    ("linear: counter is not reset", "linear.h", "    if (*last) *counter = 0;\n", "", "int4_linear dense"),
    ("linear: inputs beyond K are read", "linear.h", "row < call.rows && k < call.inWidth", "row < call.rows", "int4_linear dense"),
    ("linear: segments are not summed apart", "linear.h", "if (!kSplit && ((step + 1) % stepsPerSegment == 0 || step + 1 == lastStep))", "if (!kSplit && step + 1 == lastStep)", "int4_linear dense"),
    ("linear: ring of the wrong length", "linear.h", "(step - firstStep) % kStages * stageBytes", "(step - firstStep) % (kStages - 1) * stageBytes", "int4_linear dense"),
    ("linear: up is taken from gate", "linear.h", "sums[m][j | 1][e]", "sums[m][j][e]", "int4_linear_silu"),
    ("linear: residual is overwritten", "linear.h", "LinearEpilogue::Residual ? toFloat(*at) + y : y", "LinearEpilogue::Residual ? y : y", "int4_linear"),
    ("tile: lost swizzle", "device.h", "chunk ^ (row & 7)", "chunk", "int4_linear dense"),
    ("block sum: dropped barrier", "device.h", "  if (lane == 0) scratch[warp] = value;\n  syncThreads();", "  if (lane == 0) scratch[warp] = value;", "rms_norm"),
    ("int4: wrong nibble", "int4_dequantize.h", "0x000f000fu", "0x00f000f0u", "int4"),
    ("int4: swapped scale", "int4_dequantize.h", "(16 * (b & 1)) & 0xffffu", "(16 * (~b & 1)) & 0xffffu", "int4"),
    ("int4: zero of another column", "int4_dequantize.h", "8 * (b & 3)", "8 * (b & 1)", "int4"),
    ("int4: scale of an older group", "linear_int4.cu", "if (kk * 16 % groupSize && kk > 0) return;", "if (kk > 0) return;", "int4"),
    ("int4 repack: columns 8..15 in the wrong nibbles", "int4_tiles.cc", "(inWord >= 8 ? 2 : 0)", "(inWord >= 8 ? 0 : 2)", "int4"),
    ("int4 repack: group of a coarse checkpoint", "int4_tiles.cc", "group * shape.groupSize / source.groupSize", "group", "int4"),
    ("dequantize: swapped fragments", "dequantize.cu", "reinterpret_cast<uint32_t*>(at + 8) = b1", "reinterpret_cast<uint32_t*>(at + 8) = b0", "int4"),
    ("attention: a token doesn't see itself", "attention_tile.h", "position > query ||", "position >= query ||", "attention"),
    ("attention: window one too wide", "attention_tile.h", "position <= query - call.slidingWindow", "position < query - call.slidingWindow", "attention"),
    ("attention: merge without rescaling", "attention_tile.h", "running * weights.running", "running", "attention"),
    ("attention: a position beyond the context", "attention_tile.h", "position < item.kvEnd", "position <= item.kvEnd", "attention"),
    ("attention: merges before all heads arrived", "attention_tile.h", "== group * token.numSegments", "== token.numSegments", "attention"),
    ("attention: values of the wrong head", "attention_tile.h", "call.numKvHeads + blockY()) * kPageTokens", "call.numKvHeads) * kPageTokens", "attention"),
    ("attention: keys where values should be", "attention_tile.h", "/ kPageTokens]) * 2 + part;", "/ kPageTokens]) * 2 + 0 * part;", "attention"),
    ("decode: dropped barrier before the maxima are read", "attention_decode.h", "    syncThreads();  // maxima", "    // maxima", "attention"),
    ("decode: wait for one group too few", "attention_decode.h", "    waitCopies<1>();\n    syncThreads();  // values", "    waitCopies<2>();\n    syncThreads();  // values", "attention"),
    ("decode: values refilled while read", "attention_decode.h", "    syncThreads();  // values have been read", "    // values have been read", "attention"),
    ("prefill: sum is not rescaled", "attention_prefill.h", "    state.sums[h * 2] *= rescale;\n", "", "attention"),
    ("prefill: segments are not merged apart", "attention_prefill.h", "if (next % kSegment == 0 || next >= item.kvEnd)", "if (next >= item.kvEnd)", "attention"),
    ("prefill: dropped barrier before keys are refilled", "attention_prefill.h", "    syncThreads();  // keys have been read", "    // keys have been read", "attention"),
    ("plan: last position is left out", "attention_plan.cc", "std::min(lastPos + 1,", "std::min(lastPos,", "attention"),
    ("sample: top-k one too many", "sample_search.cu", "static_cast<uint64_t>(args.topK[row]);", "static_cast<uint64_t>(args.topK[row]) + 1;", "sample_every sample_ties sample_inf sample_pen"),
    ("sample: a tie too few", "sample_search.cu", "earlier + 1 == nth", "earlier == nth", "sample_keeps sample_every sample_ties sample_inf sample_pen"),
    ("sample: dropped barrier of the histogram", "sample_search.cu", "shared->low[bin] = shared->high[bin] = 0;\n  syncThreads();", "shared->low[bin] = shared->high[bin] = 0;", "sample_every sample_ties sample_inf sample_pen"),
    ("sample: histogram is not left zero", "sample_search.cu", "    histogram[firstBin - i] = 0;\n", "", "sample_every sample_ties sample_inf sample_pen"),
    ("sample: one noise for four tokens", "sample_draw.cu", "gumbel(words.word[i])", "gumbel(words.word[0])", "sample_every sample_ties sample_inf sample_pen"),
    ("sample: a slice is forgotten", "sample_draw.cu", "for (int i = threadX(); i < scratch.numSlices", "for (int i = threadX() + 1; i < scratch.numSlices", "sample_every sample_ties sample_inf sample_pen"),
    ("sample: prompt counts as output", "sample_adjust.cu", "if (i >= args.numPrompt[slot])", "if (i > args.numPrompt[slot])", "sample_every sample_ties sample_inf sample_pen"),
    ("sample: mask bit of another token", "sample_adjust.cu", ">> (token & 31) & 1u", ">> (31 - (token & 31)) & 1u", "sample_every sample_ties sample_inf sample_pen"),
    ("rope: sign of the second half", "rope_store_kv.cu", "head[i] * c + head[i - step] * s", "head[i] * c - head[i - step] * s", "rope"),
    ("rope: offset in the page", "rope_store_kv.cu", "* kPageTokens + slot % kPageTokens)", "* kPageTokens)", "rope"),
    ("rms norm: residual is not stored", "rms_norm.cu", "      *reinterpret_cast<Words4*>(sums + column) = rounded;\n", "", "rms_norm"),
    ("copy pages: layers overlap", "copy_pages.cu", "blockY() * numPages * pageWords", "blockY() * (numPages - 1) * pageWords", "copy_pages"),
]  # fmt: skip


def run(command, seconds):
    """The exit status; None after a timeout."""
    try:
        return subprocess.run(command, timeout=seconds, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        return None


def build():
    command = ["cmake", "--build", str(WORK / "build"), "--target", "cuda_tests", "-j", "2"]
    return run(command, 600) == 0


def prepare(chosen):
    shutil.rmtree(WORK, ignore_errors=True)
    for folder in ("kernels", "test/cuda"):
        shutil.copytree(ROOT / folder, WORK / folder)
    configured = run(["cmake", "-S", str(WORK / "kernels/cuda"), "-B", str(WORK / "build")], 60) == 0
    tests = sorted({test for mutant in chosen for test in mutant[4].split()})
    if not configured or not build() or run([str(WORK / "build/cuda_tests"), *tests], 600) != 0:
        sys.exit("the tests must build and pass without a mutant")


def try_mutant(file, old, new, tests):
    """'caught', 'not caught' or 'invalid' (doesn't apply or doesn't compile)."""
    path = WORK / "kernels/cuda" / file
    source = path.read_text()
    if old not in source:
        return "invalid"
    path.write_text(source.replace(old, new, 1))
    try:
        if not build():
            return "invalid"
        status = run([str(WORK / "build/cuda_tests"), *tests.split()], SECONDS)
        return "not caught" if status == 0 else "caught"
    finally:
        path.write_text(source)


def main():
    chosen = [m for m in MUTANTS if len(sys.argv) == 1 or any(word in m[0] for word in sys.argv[1:])]
    prepare(chosen)
    results = []
    for name, *mutant in chosen:
        start = time.time()
        results.append(try_mutant(*mutant))
        print(f"{results[-1]:10}  {name}  ({time.time() - start:.0f} s)", flush=True)
    caught = results.count("caught")
    print(f"{caught} of {len(results)} caught, {results.count('invalid')} invalid")
    return 0 if caught >= 0.9 * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
