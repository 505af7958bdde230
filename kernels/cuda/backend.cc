// The CUDA backend's table, memory and context. Built with runtime/gpu_cuda.cc it is liboctavo_cuda, with the
// simulator liboctavo_cuda_sim.
#include "backend.h"

#include <algorithm>
#include <cstdio>
#include <thread>

#include "sample.h"

#if defined(OCTAVO_CUDA_SIMULATED)
#define OCTAVO_CUDA_NAME "cuda-sim"
#else
#define OCTAVO_CUDA_NAME "cuda"
#endif

namespace octavo::cuda {
namespace {

// Rows from which on the matmul library takes over where nothing was measured.
constexpr int kLibraryRows = 1024, kLibraryRowsHopper = 512;

int describe(DeviceDescription* description, char* reason, size_t reasonSize) {
  gpu::Description device{};
  if (gpu::describe(&device, reason, reasonSize) != 0) return 1;
  std::snprintf(description->name, sizeof description->name, "%s", device.name);
  std::snprintf(description->isa, sizeof description->isa, "sm_%d%d", device.major, device.minor);
  std::snprintf(description->driver, sizeof description->driver, "%s", device.driver);
  description->totalMemory = device.totalMemory;
  description->freeMemory = device.freeMemory;
  description->measurable = device.measurable ? 1 : 0;
  return 0;
}

size_t scratchBytes(const OpenOptions* options) {
  return planScratch(*options).total();
}

int createEvents(CudaContext* context) {
  int status = gpu::createEvent(&context->staged);
  if (status == 0) status = gpu::createEvent(&context->computed);
  for (LoadStage& stage : context->stages)
    if (status == 0) status = gpu::createEvent(&stage.copied);
  for (SlotEvents& slot : context->slots) {
    if (status == 0) status = gpu::createEvent(&slot.begin);
    if (status == 0) status = gpu::createEvent(&slot.end);
    for (gpu::Event& event : slot.marks)
      if (status == 0) status = gpu::createEvent(&event);
  }
  return status;
}

// All scratch memory; false: the reason is in the context's error.
bool takeScratch(CudaContext* context) {
  const ScratchPlan& plan = context->plan;
  Scratch& scratch = context->scratch;
  const auto take = [&](auto** pointer, size_t bytes) {
    *pointer = static_cast<std::remove_reference_t<decltype(*pointer)>>(context->take(bytes));
    return *pointer != nullptr;
  };
  bool taken =
      take(&scratch.linearPartials, plan.linearPartials) &&
      take(&scratch.linearCounters, plan.linearCounters) &&
      take(&scratch.attentionPartials, plan.attentionPartials) &&
      take(&scratch.attentionCounters, plan.attentionCounters) && take(&scratch.sample, plan.sample) &&
      take(&scratch.plans, plan.plans) &&
      (plan.queries == 0 || (take(&scratch.queries, plan.queries) && take(&scratch.attended, plan.queries)));
  if (context->library)
    taken = taken && take(&scratch.library.slice, plan.librarySlice) &&
            take(&scratch.library.pairs, plan.libraryPairs) &&
            take(&scratch.library.workspace, plan.libraryWorkspace);
  for (SlotEvents& slot : context->slots) {
    taken = taken && take(&slot.planStaging, plan.plans);
    if (taken) slot.planHost = static_cast<char*>(context->takeHost(plan.plans));
    taken = taken && slot.planHost;
  }
  return taken;
}

// The matmul library where it is asked for, and the tiles that were chosen; false: the reason is in the
// context's error.
bool openLinears(CudaContext* context, const OpenOptions& options, const gpu::Description& device) {
  context->shapes.assign(options.linears, options.linears + options.numLinears);
  context->libraryRows = device.major >= 9 ? kLibraryRowsHopper : kLibraryRows;
  if (options.useMatmulLibrary) {
    std::string reason;
    context->library = MatmulLibrary::open(&reason);
    if (!context->library) return context->fail("matmul library: %s", reason.c_str()) == 0;
  }
  for (int i = 0; i < options.numTiles; ++i) {
    const TileChoice& choice = options.tiles[i];
    if (choice.linear < 0 || choice.linear >= options.numLinears)
      return context->fail("tile %d: no linear %d", i, choice.linear) == 0;
    const LinearShape& shape = options.linears[choice.linear];
    const int mostRows = std::min(choice.mostRows, shape.maxRows);
    if (!hasTile(context, shape, mostRows, choice.tile))
      return context->fail("tile %s: expected one that computes %d rows of %lld x %lld",
                           tileName(choice.tile) ? tileName(choice.tile) : "?", mostRows,
                           static_cast<long long>(shape.n), static_cast<long long>(shape.k)) == 0;
    context->choices.push_back(choice);
  }
  return true;
}

Context* open(const OpenOptions* options, char* error, size_t errorSize) {
  gpu::Description device{};
  if (gpu::describe(&device, error, errorSize) != 0) return nullptr;
  auto* context = new (std::nothrow) CudaContext(*options);
  if (!context) {
    std::snprintf(error, errorSize, "no host memory for a context");
    return nullptr;
  }
  context->multiprocessors = std::max(1, device.multiprocessors);
  int status = gpu::createStream(&context->compute);
  if (status == 0) status = gpu::createStream(&context->copyIn);
  if (status == 0) status = gpu::createStream(&context->copyOut);
  if (status == 0) status = createEvents(context);
  if (context->check(status, "streams") != 0 || !openLinears(context, *options, device) ||
      !takeScratch(context)) {
    std::snprintf(error, errorSize, "%s", context->error);
    delete context;
    return nullptr;
  }
  const std::vector<PlanArrays> arrays = cutPlans(context->plan, context->scratch.plans);
  for (int i = 0; i < options->numAttentions; ++i) {
    StepAttention attention;
    attention.shape = options->attentions[i];
    attention.pageDim = pageHeadDim(attention.shape.headDim);
    attention.arrays = arrays[static_cast<size_t>(i)];
    context->attentions.push_back(attention);
  }
  return context;
}

void close(Context* context) {
  delete context;
}

const char* lastError(const Context* context) {
  return context->error;
}

void* alloc(Context* context, size_t bytes) {
  return self(context)->take(bytes);
}

void* allocHost(Context* context, size_t bytes) {
  return self(context)->takeHost(bytes);
}

// Takes `memory` off the list; false: it is none of the context's.
bool forget(std::vector<void*>& list, void* memory) {
  const auto found = std::find(list.begin(), list.end(), memory);
  if (found == list.end()) return false;
  list.erase(found);
  return true;
}

void release(Context* context, void* memory) {
  if (forget(self(context)->memory, memory)) gpu::release(memory);
}

void releaseHost(Context* context, void* memory) {
  if (forget(self(context)->hostMemory, memory)) gpu::releaseHost(memory);
}

int upload(Context* context, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return 0;
  CudaContext* cuda = self(context);
  return cuda->check(gpu::copyFromPageable(to, from, bytes, cuda->compute), "copy to the device");
}

int download(Context* context, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return 0;
  CudaContext* cuda = self(context);
  return cuda->check(gpu::copy(to, from, bytes, cuda->compute), "copy from the device");
}

int sync(Context* context) {
  CudaContext* cuda = self(context);
  int status = gpu::synchronize(cuda->copyIn);
  if (status == 0) status = gpu::synchronize(cuda->compute);
  if (status == 0) status = gpu::synchronize(cuda->copyOut);
  return cuda->check(status, "device");
}

int setKvDType(Context* context, DType type) {
  if (type != DType::F16) return context->fail("only f16");
  context->kvDType = type;
  return 0;
}

int numThreads(const Context* context) {
  return static_cast<const CudaContext*>(context)->threads;
}

Ops makeOps() {
  Ops ops{};
  ops.abiVersion = kOpsAbiVersion;
  ops.name = OCTAVO_CUDA_NAME;
  ops.activation = DType::F16;
  ops.describe = describe;
  ops.scratchBytes = scratchBytes;
  ops.open = open;
  ops.close = close;
  ops.lastError = lastError;
  ops.alloc = alloc;
  ops.release = release;
  ops.allocHost = allocHost;
  ops.releaseHost = releaseHost;
  ops.upload = upload;
  ops.download = download;
  ops.sync = sync;
  ops.loadLinear = loadLinear;
  ops.loadDense = loadDense;
  ops.linearBytes = linearBytes;
  ops.denseBytes = denseBytes;
  ops.finishLoading = finishLoading;
  ops.embed = opEmbed;
  ops.rmsNorm = opRmsNorm;
  ops.linear = opLinear;
  ops.ropeStoreKv = opRopeStoreKv;
  ops.attention = opAttention;
  ops.siluMul = opSiluMul;
  ops.add = opAdd;
  ops.gatherRows = opGatherRows;
  ops.softcap = opSoftcap;
  ops.sample = opSample;
  ops.beginStep = beginStep;
  ops.stage = stage;
  ops.resolve = resolveStep;
  ops.copyOut = copyOutRows;
  ops.mark = mark;
  ops.endStep = endStep;
  ops.waitStep = waitStep;
  ops.beginCapture = beginCapture;
  ops.endCapture = endCapture;
  ops.replay = replay;
  ops.sampleInGraph = sampleInGraph;
  ops.tileName = tileName;
  ops.tileRevision = 1;
  ops.isTileCandidate = isTileCandidate;
  ops.timeLinear = timeLinear;
  ops.matmulLibrary = describeMatmulLibrary;
  ops.kvDefault = DType::F16;
  ops.setKvDType = setKvDType;
  ops.pageHeadDim = pageHeadDim;
  ops.numThreads = numThreads;
  return ops;
}

}  // namespace

CudaContext::CudaContext(const OpenOptions& openOptions)
    : Context(openOptions), plan(planScratch(openOptions)) {
  kvDType = DType::F16;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  threads = openOptions.threads > 0 ? openOptions.threads : std::max(1, cores);
  options.linears = nullptr;  // the caller's, during open() only
  options.attentions = nullptr;
  options.tiles = nullptr;
}

CudaContext::~CudaContext() {
  bool failed = false;
  for (const gpu::Stream stream : {copyIn, compute, copyOut})
    if (stream) failed = gpu::synchronize(stream) != 0 || failed;
  for (const gpu::Graph graph : graphs) gpu::destroyGraph(graph);
  for (void* allocation : memory) gpu::release(allocation);
  for (void* allocation : hostMemory) gpu::releaseHost(allocation);
  const auto destroy = [](gpu::Event event) {
    if (event) gpu::destroyEvent(event);
  };
  for (const gpu::Event event : {staged, computed, tune.begin, tune.end}) destroy(event);
  for (LoadStage& stage : stages) {
    destroy(stage.copied);
    if (stage.memory) gpu::releaseHost(stage.memory);
  }
  for (SlotEvents& slot : slots) {
    destroy(slot.begin);
    destroy(slot.end);
    for (const gpu::Event event : slot.marks) destroy(event);
  }
  for (const gpu::Stream stream : {copyIn, compute, copyOut})
    if (stream) gpu::destroyStream(stream);
  if (failed) gpu::reset();
}

int CudaContext::check(int status, const char* what) {
  return status == 0 ? 0 : fail("%s: %s", what, gpu::errorText(status));
}

void* CudaContext::take(size_t bytes) {
  void* allocation = nullptr;
  int status = gpu::allocate(&allocation, bytes);
  if (status == 0) {
    memory.push_back(allocation);
    status = gpu::clear(allocation, bytes, compute);
  }
  if (status == 0) return allocation;
  fail("%zu bytes of device memory: %s", bytes, gpu::errorText(status));
  return nullptr;
}

void* CudaContext::takeHost(size_t bytes) {
  void* allocation = nullptr;
  const int status = gpu::allocateHost(&allocation, bytes);
  if (status != 0) {
    fail("%zu bytes of pinned memory: %s", bytes, gpu::errorText(status));
    return nullptr;
  }
  std::fill_n(static_cast<char*>(allocation), bytes, char{0});
  hostMemory.push_back(allocation);
  return allocation;
}

}  // namespace octavo::cuda

extern "C" __attribute__((visibility("default"))) const octavo::Ops* octavoBackendOps() {
  static const octavo::Ops ops = octavo::cuda::makeOps();
  return &ops;
}
