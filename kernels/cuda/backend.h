// The CUDA backend's own state. All device memory is taken by open() and by loading; an op only launches.
//
//   copyIn   host block -> staging                 | beside what computes
//   compute  wait, pieces in place, resolve, body, head, sample, ... | in order
//   copyOut  wait, results -> host                 | beside the next step
#pragma once
#include <memory>
#include <vector>

#include "../host.h"
#include "attention_plan.h"
#include "gpu.h"
#include "launchers.h"
#include "matmul_library.h"
#include "scratch.h"

namespace octavo::cuda {

constexpr int kMostMarks = 64;  // of a step; the time of further ones is added to the last

// Indices of kLinearTiles, then the matmul library.
constexpr int kLibraryTile = kNumLinearTiles;
// Below it no library is tried: its dequantized slices cost more than they save.
constexpr int kLeastLibraryRows = 257;

// Of fp16 weights. A Hopper's L2 (50 MiB) holds the slice beside activations; an A6000's (6 MiB) doesn't, but
// narrower slices than this would leave its multiprocessors idle at each slice's end.
constexpr size_t kLibrarySliceBytes = size_t{16} << 20;

struct TileRange {
  int mostRows, tile;
};

struct CudaLinear : Linear {
  bool int4 = false;
  bool pairs = false;  // gate and up, interleaved
  int outputs = 0;     // columns of its result, before padding
  int paddedN = 0, paddedK = 0;
  Int4Weight codes{};
  const Half* dense = nullptr;  // [paddedN, paddedK]
  const Half* bias = nullptr;   // [paddedN] or null
  std::vector<TileRange> tiles;  // that were chosen, by ascending rows
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

// What tiles are timed with; taken at the first timing.
struct TuneMemory {
  char* weights = nullptr;  // random, of the largest linear and as much again as a cache may hold
  size_t bytes = 0;
  Half *in = nullptr, *out = nullptr;
  gpu::Event begin = nullptr, end = nullptr;
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
  std::vector<LinearShape> shapes;
  std::vector<TileChoice> choices;         // by shape and ascending rows
  std::unique_ptr<MatmulLibrary> library;  // null: none, or not asked for
  int libraryRows = 0;                     // from which on it computes what no tile was chosen for
  size_t sliceBytes = kLibrarySliceBytes;  // tests make it less
  TuneMemory tune;
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
// The linear of this source, packed at `memory` [linearBytes]; null: its shape alone.
void bindLinear(CudaLinear*, const LinearSource&, char* memory);
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

// The call by that tile; -1: by the default one. 0 or an error code.
template <class Out>
int launchByTile(CudaContext*, const CudaLinear&, const LinearCall<Half, Out>&, int tile);

// backend_tune.cc
const char* tileName(int32_t tile);
int isTileCandidate(const Context*, int32_t linear, int32_t rows, int32_t tile);
int timeLinear(Context*, int32_t linear, int32_t rows, int32_t tile, double* microseconds);
// Whether there are kernels for the shape's groups.
bool isSupported(const LinearShape&);
// The linear without its weights: its padded shape.
CudaLinear unboundLinear(const LinearShape&);
// Whether the shape can be computed by that tile at up to that many rows.
bool hasTile(const CudaContext*, const LinearShape&, int rows, int tile);
// Gives the linear the tiles that were chosen for its shape.
void chooseTiles(const CudaContext*, CudaLinear*, int groupSize);

// backend_library.cc
bool libraryComputes(const CudaLinear&, int rows);
size_t librarySliceBytes(const CudaLinear&);  // most of fp16 weights, and of gate and up columns
size_t libraryPairBytes(const CudaLinear&, int rows);
int libraryLinear(CudaContext*, const CudaLinear&, const LinearCall<Half, Half>&);
int describeMatmulLibrary(char* text, size_t textSize);

// The size of a head in a page: the smallest with kernels that holds headDim; 0: none.
int pageHeadDim(int32_t headDim);

}  // namespace octavo::cuda
