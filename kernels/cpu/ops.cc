// The cpu backend's table.
#include "../ops.h"

#include <algorithm>
#include <cstdio>

#include "context.h"
#include "cpu.h"

namespace octavo {
namespace cpu {
namespace {

size_t padScratch(size_t bytes) {
  return (bytes + 4095) / 4096 * 4096 + 64;
}

Context* open(const OpenOptions* options, char* error, size_t errorSize) {
  auto* context = new (std::nothrow) CpuContext(*options);
  if (!context) {
    std::snprintf(error, errorSize, "cpu: no memory for a context");
    return nullptr;
  }
  context->isa = currentIsa();
  if (!context->pool.start(options->threads > 0 ? options->threads : physicalCores())) {
    std::snprintf(error, errorSize, "cpu: the system refuses to start %d threads", options->threads);
    delete context;
    return nullptr;
  }
  // Not a multiple of a page: threads' scratch would share cache sets.
  const auto threads = static_cast<size_t>(context->pool.threads());
  context->scratchBytes =
      padScratch(std::max({linearScratchBytes(), linearInt8ScratchBytes(), attentionScratchBytes()}));
  context->sampleBytes = padScratch(sampleScratchBytes(*options));
  if (!context->rowTiles.allocate(static_cast<size_t>(options->maxRows)) ||
      !context->scratchMemory.allocate(context->scratchBytes * threads) ||
      !context->sampleMemory.allocate(context->sampleBytes * threads)) {
    std::snprintf(error, errorSize, "cpu: no memory for scratch");
    delete context;
    return nullptr;
  }
  return context;
}

int numThreads(const Context* context) {
  return static_cast<const CpuContext*>(context)->pool.threads();
}

Ops makeOps() {
  Ops ops{};
  fillHostOps(&ops);
  ops.name = "cpu";
  ops.open = open;
  ops.loadLinear = loadLinear;
  ops.linearBytes = linearBytes;
  ops.embed = embed;
  ops.rmsNorm = rmsNorm;
  ops.linear = linear;
  ops.ropeStoreKv = ropeStoreKv;
  ops.attention = attention;
  ops.siluMul = siluMul;
  ops.add = add;
  ops.gatherRows = gatherRows;
  ops.softcap = softcap;
  ops.sample = sample;
  ops.numThreads = numThreads;
  return ops;
}

}  // namespace
}  // namespace cpu

const Ops* cpuOps() {
  static const Ops ops = cpu::makeOps();
  return &ops;
}

}  // namespace octavo
