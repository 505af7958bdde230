// The CUDA backend's own state. All device memory is taken by open() and by loading; an op only launches.
//
//   copyIn   host block -> staging                 | beside what computes
//   compute  wait, pieces in place, resolve, body, head, sample, ... | in order
//   copyOut  wait, results -> host                 | beside the next step
#pragma once
#include <vector>

#include "../host.h"
#include "attention_plan.h"
#include "gpu.h"
#include "launchers.h"
#include "scratch.h"

namespace octavo::cuda {

constexpr int kMostMarks = 64;  // of a step; the time of further ones is added to the last

struct CudaLinear : Linear {
  bool int4 = false;
  bool pairs = false;  // gate and up, interleaved
  int outputs = 0;     // columns of its result, before padding
  int paddedN = 0, paddedK = 0;
  Int4Weight codes{};
  const Half* dense = nullptr;  // [paddedN, paddedK]
  const Half* bias = nullptr;   // [paddedN] or null
};

// One attention shape's plan of the current step.
struct StepAttention {
  AttentionShape shape{};
  int pageDim = 0;
  PlanArrays arrays;  // on the device
  std::vector<AttentionRun> runs;
};

struct SlotEvents {
  gpu::Event begin = nullptr, end = nullptr;
  gpu::Event marks[kMostMarks] = {};
  int stages[kMostMarks] = {};
  int numMarks = 0;
  int lastStage = -1;           // of the time between the last mark and the end
  char* planHost = nullptr;     // pinned
  char* planStaging = nullptr;  // device
};

// Pinned memory that weights are packed into on their way to the device; two, so that one is packed while the
// other is copied.
struct LoadStage {
  char* memory = nullptr;
  size_t bytes = 0;
  gpu::Event copied = nullptr;
};

struct CudaContext : Context {
  explicit CudaContext(const OpenOptions& options);
  ~CudaContext() override;

  // Each gives 0, or records what failed and gives what the op returns.
  int check(int status, const char* what);
  // Zeroed device memory, or null with the reason recorded.
  void* take(size_t bytes);
  void* takeHost(size_t bytes);

  gpu::Stream compute = nullptr, copyIn = nullptr, copyOut = nullptr;
  gpu::Event staged = nullptr, computed = nullptr;
  SlotEvents slots[kStepSlots];
  std::vector<void*> memory, hostMemory;
  std::vector<gpu::Graph> graphs;
  ScratchPlan plan;
  Scratch scratch;
  std::vector<StepAttention> attentions;
  bool capturing = false;
  int threads = 1, multiprocessors = 1;
  LoadStage stages[2];
  int nextStage = 0;
};

inline CudaContext* self(Context* context) {
  return static_cast<CudaContext*>(context);
}

// Runs an op's body; what the simulator or the planner throws becomes the context's error.
template <class Body>
int guarded(Context* context, const Body& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    return context->fail("%s", error.what());
  }
}

// backend_load.cc
Linear* loadLinear(Context*, const LinearSource*);
Dense* loadDense(Context*, const HostTensor*, int keep);
size_t linearBytes(const LinearSource*);
size_t denseBytes(const HostTensor*, int keep);
int finishLoading(Context*);

// backend_step.cc
int beginStep(Context*, BeginStepArgs*);
int stage(Context*, const StageArgs*);
int resolveStep(Context*, const ResolveArgs*);
int copyOutRows(Context*, const CopyOutArgs*);
int mark(Context*, int32_t slot, int32_t stage);
int endStep(Context*, int32_t slot, int32_t stage);
int waitStep(Context*, int32_t slot, double* microseconds, char* error, size_t errorSize);
int beginCapture(Context*);
Graph* endCapture(Context*);
int replay(Context*, Graph*);
int sampleInGraph(const SampleArgs* host);

// backend_ops.cc
int opEmbed(Context*, const EmbedArgs*);
int opRmsNorm(Context*, const RmsNormArgs*);
int opLinear(Context*, const LinearArgs*);
int opRopeStoreKv(Context*, const RopeStoreKvArgs*);
int opAttention(Context*, const AttentionArgs*);
int opSiluMul(Context*, const SiluMulArgs*);
int opAdd(Context*, const AddArgs*);
int opGatherRows(Context*, const GatherRowsArgs*);
int opSoftcap(Context*, const SoftcapArgs*);
int opSample(Context*, const SampleArgs*);

// The size of a head in a page: the smallest with kernels that holds headDim; 0: none.
int pageHeadDim(int32_t headDim);

}  // namespace octavo::cuda
