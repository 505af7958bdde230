// A backend that computes nothing and fails on demand, to test what a runner does then. The first token id of
// a step chooses: 11 the embedding fails, 12 the sampler gives an id out of range, 13 the step takes 300 ms.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "../../kernels/ops.h"

namespace octavo {

struct Context {
  const char* error = "";
  int32_t order = 0;
};
struct Dense {};
struct Linear {};

namespace {

int copy(Context*, void* target, const void* source, size_t bytes) {
  if (bytes) std::memcpy(target, source, bytes);
  return 0;
}

int embed(Context* context, const EmbedArgs* args) {
  context->order = args->ids[0];
  if (context->order == 13) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  if (context->order != 11) return 0;
  context->error = "the device fell off the bus";
  return 1;
}

int sample(Context* context, const SampleArgs* args) {
  for (int32_t r = 0; r < args->rows; r++) args->sampledIds[r] = context->order == 12 ? args->vocab : 1;
  return 0;
}

template <typename Args>
int nothing(Context*, const Args*) {
  return 0;
}

Ops makeOps() {
  Ops ops{};
  ops.abiVersion = kOpsAbiVersion;
  ops.name = "faulty";
  ops.activation = DType::F32;
  ops.open = [](const OpenOptions*, char*, size_t) { return new Context; };
  ops.close = [](Context* context) { delete context; };
  ops.lastError = [](const Context* context) { return context->error; };
  ops.alloc = ops.allocHost = [](Context*, size_t bytes) { return std::calloc(bytes + 1, 1); };
  ops.release = ops.releaseHost = [](Context*, void* memory) { std::free(memory); };
  ops.upload = ops.download = copy;
  ops.sync = [](Context*) { return 0; };
  ops.loadLinear = [](Context*, const LinearSource*) {
    static Linear linear;
    return &linear;
  };
  ops.loadDense = [](Context*, const HostTensor*, int) {
    static Dense dense;
    return &dense;
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
  ops.kvDefault = DType::F32;
  ops.setKvDType = [](Context* context, DType type) {
    context->error = "no such KV type";
    return type == DType::F32 ? 0 : 1;
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
