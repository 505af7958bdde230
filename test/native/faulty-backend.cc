// A backend that computes nothing and fails on demand, to test what a runner does then. The first token id of
// a step chooses: 11 the embedding fails, 12 the sampler gives an id out of range, 13 the step takes 300 ms.
// Compiled with kernels/host.cc, which gives it memory and the copies of a step.
#include <chrono>
#include <thread>

#include "../../kernels/host.h"

namespace octavo {

namespace {

struct FaultyContext : Context {
  using Context::Context;
  int32_t order = 0;
};

int embed(Context* context, const EmbedArgs* args) {
  int32_t& order = static_cast<FaultyContext*>(context)->order;
  order = args->ids[0];
  if (order == 13) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  return order == 11 ? context->fail("the device fell off the bus") : 0;
}

int sample(Context* context, const SampleArgs* args) {
  const bool astray = static_cast<FaultyContext*>(context)->order == 12;
  for (int32_t r = 0; r < args->rows; r++) args->sampledIds[r] = astray ? args->vocab : 1;
  return 0;
}

template <typename Args>
int nothing(Context*, const Args*) {
  return 0;
}

Ops makeOps() {
  Ops ops{};
  fillHostOps(&ops);
  ops.name = "faulty";
  ops.open = [](const OpenOptions* options, char*, size_t) -> Context* {
    return new FaultyContext(*options);
  };
  ops.loadLinear = [](Context*, const LinearSource*) {
    static Linear linear;
    return &linear;
  };
  ops.linearBytes = [](const LinearSource*) { return size_t{1}; };
  ops.embed = embed;
  ops.rmsNorm = nothing<RmsNormArgs>;
  ops.linear = nothing<LinearArgs>;
  ops.ropeStoreKv = nothing<RopeStoreKvArgs>;
  ops.attention = nothing<AttentionArgs>;
  ops.siluMul = nothing<SiluMulArgs>;
  ops.add = nothing<AddArgs>;
  ops.gatherRows = nothing<GatherRowsArgs>;
  ops.softcap = nothing<SoftcapArgs>;
  ops.sample = sample;
  ops.setKvDType = [](Context* context, DType type) {
    return type == DType::F32 ? 0 : context->fail("no such KV type");
  };
  ops.numThreads = [](const Context*) { return 1; };
  return ops;
}

}  // namespace
}  // namespace octavo

extern "C" const octavo::Ops* octavoBackendOps() {
  static const octavo::Ops ops = octavo::makeOps();
  return &ops;
}
