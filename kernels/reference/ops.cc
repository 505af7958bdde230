// The reference backend's table.
#include <cstdio>

#include "reference.h"

namespace octavo {
namespace reference {
namespace {

Context* open(const OpenOptions* options, char* error, size_t errorSize) {
  auto* context = new (std::nothrow) ReferenceContext(*options);
  const auto vocab = static_cast<size_t>(options->vocabSize);
  const auto maxContext = static_cast<size_t>(options->maxContext);
  if (!context || !context->row.allocate(vocab > maxContext ? vocab : maxContext) ||
      !context->order.allocate(vocab) || !context->counts.allocate(vocab)) {
    std::snprintf(error, errorSize, "reference: no memory for scratch");
    delete context;
    return nullptr;
  }
  return context;
}

int numThreads(const Context*) {
  return 1;
}

Ops makeOps() {
  Ops ops{};
  fillHostOps(&ops);
  ops.name = "reference";
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
}  // namespace reference

const Ops* referenceOps() {
  static const Ops ops = reference::makeOps();
  return &ops;
}

}  // namespace octavo
