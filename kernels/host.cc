// Memory, dense tensors and errors of the host backends.
#include "host.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdio>
#include <cstring>

namespace octavo {

namespace {

constexpr size_t kAlign = 64;
constexpr uintptr_t kHugePage = 2 << 20;

// Before every block: what it was cut from, and how much of that is mapped; 0: calloc's.
struct BlockHeader {
  void* original;
  size_t mapped;
};

void* blockAt(uintptr_t address, void* original, size_t mapped) {
  void* memory = reinterpret_cast<void*>(address);
  static_cast<BlockHeader*>(memory)[-1] = {original, mapped};
  return memory;
}

#if defined(__linux__)
constexpr uintptr_t kPage = 4096;

// The huge pages that lie wholly in [from, to).
void adviseHugePages(uintptr_t from, uintptr_t to) {
  const uintptr_t first = (from + kHugePage - 1) / kHugePage * kHugePage, last = to / kHugePage * kHugePage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}
#endif

}  // namespace

// calloc leaves large blocks untouched, which a memset after an aligned allocation would not.
void* allocateAligned(size_t bytes) {
  if (bytes > SIZE_MAX - 2 * kAlign) return nullptr;
  void* original = std::calloc(bytes + 2 * kAlign, 1);
  if (!original) return nullptr;
  const auto address = reinterpret_cast<uintptr_t>(original);
  return blockAt((address + sizeof(BlockHeader) + kAlign - 1) / kAlign * kAlign, original, 0);
}

void* allocateForWeights(size_t bytes) {
#if defined(__linux__)
  if (bytes >= kHugePage && bytes <= SIZE_MAX - 2 * kHugePage) {
    const size_t size = (kPage + bytes + kPage - 1) / kPage * kPage, mapped = size + kHugePage;
    void* start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return nullptr;
    const auto address = reinterpret_cast<uintptr_t>(start);
    const uintptr_t aligned = (address + kPage + kHugePage - 1) / kHugePage * kHugePage;
    adviseHugePages(aligned, aligned + bytes);
    return blockAt(aligned, start, mapped);  // untouched, what lies around the block takes no memory
  }
#endif
  return allocateAligned(bytes);
}

void freeAligned(void* memory) {
  if (!memory) return;
  const BlockHeader header = static_cast<BlockHeader*>(memory)[-1];
#if defined(__linux__)
  if (header.mapped > 0) {
    munmap(header.original, header.mapped);
    return;
  }
#endif
  std::free(header.original);
}

Context::~Context() {
  while (linears) {
    Linear* next = linears->next;
    delete linears;
    linears = next;
  }
  while (denses) {
    Dense* next = denses->next;
    delete denses;
    denses = next;
  }
  while (allocations) {
    Allocation* next = allocations->next;
    delete allocations;
    allocations = next;
  }
}

int Context::fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(error, sizeof error, format, arguments);
  va_end(arguments);
  return 1;
}

bool checkLinearSource(Context* context, const LinearSource& source) {
  int64_t total = 0;
  const bool dense = source.scheme == LinearScheme::Dense;
  if (source.numParts < 1 || source.numParts > 3) {
    context->fail("linear: expected 1 to 3 parts, got %d", source.numParts);
    return false;
  }
  for (int32_t i = 0; i < source.numParts; ++i) {
    const LinearPart& part = source.parts[i];
    total += part.n;
    if (!part.weight.data || (!dense && !part.scales.data)) {
      context->fail("linear: part %d has no %s", i, part.weight.data ? "scales" : "weight");
      return false;
    }
    if (source.scheme == LinearScheme::AwqInt4 && part.n % 8 != 0) {
      context->fail("linear: part %d has %lld outputs, AWQ needs a multiple of 8", i,
                    static_cast<long long>(part.n));
      return false;
    }
    if (dense == (part.weight.dtype == DType::I32)) {
      context->fail("linear: part %d has weights of the wrong type for its scheme", i);
      return false;
    }
  }
  if (source.k < 1 || total != source.n || total < 1) {
    context->fail("linear: the parts have %lld outputs of %lld inputs, expected %lld",
                  static_cast<long long>(total), static_cast<long long>(source.k),
                  static_cast<long long>(source.n));
    return false;
  }
  if (!dense && (source.groupSize < 1 || source.k % source.groupSize != 0)) {
    context->fail("linear: group size %d does not divide K = %lld", source.groupSize,
                  static_cast<long long>(source.k));
    return false;
  }
  if (source.siluMulPairs && (source.numParts != 2 || source.parts[0].n != source.parts[1].n)) {
    context->fail("linear: siluMulPairs needs two parts of equal size");
    return false;
  }
  return true;
}

namespace {

void closeContext(Context* context) {
  delete context;
}

const char* lastError(const Context* context) {
  return context->error;
}

void* allocate(Context* context, size_t bytes) {
  auto* entry = new (std::nothrow) Allocation{context->allocations, {bytes, context->numAllocated}};
  if (!entry || !entry->memory.data()) {
    context->fail("no memory for %zu bytes", bytes);
    delete entry;
    return nullptr;
  }
  context->allocations = entry;
  context->numAllocated++;
  return entry->memory.data();
}

void release(Context* context, void* memory) {
  for (Allocation** link = &context->allocations; *link; link = &(*link)->next) {
    Allocation* entry = *link;
    if (entry->memory.data() != memory) continue;
    *link = entry->next;
    delete entry;
    return;
  }
}

int copyBytes(Context*, void* target, const void* source, size_t bytes) {
  if (bytes) std::memcpy(target, source, bytes);
  return 0;
}

int synchronize(Context*) {
  return 0;
}

Dense* loadDense(Context* context, const HostTensor* source, int keep) {
  if (!source->data || source->dtype == DType::I32) {
    context->fail("dense tensor: expected f32, f16 or bf16 data");
    return nullptr;
  }
  auto* dense = new (std::nothrow) Dense;
  const int64_t count = source->rows * source->cols;
  if (!dense || (!keep && !dense->owned.allocate(static_cast<size_t>(count)))) {
    context->fail("no memory for a dense tensor of %lld elements", static_cast<long long>(count));
    delete dense;
    return nullptr;
  }
  dense->rows = source->rows;
  dense->cols = source->cols;
  dense->dtype = keep ? source->dtype : DType::F32;
  dense->data = keep ? source->data : dense->owned.data();
  if (!keep) {
    for (int64_t i = 0; i < count; ++i)
      dense->owned[static_cast<size_t>(i)] = readFloat(source->data, source->dtype, i);
  }
  dense->next = context->denses;
  context->denses = dense;
  return dense;
}

size_t denseBytes(const HostTensor* source, int keep) {
  return static_cast<size_t>(source->rows * source->cols) * (keep ? dtypeSize(source->dtype) : sizeof(float));
}

int finishLoading(Context*) {
  return 0;
}

// The host computes as it is called: a step is nothing but its ops, and its copies are made at once.
int beginStep(Context* context, BeginStepArgs* args) {
  StageClock& clock = context->clocks[args->slot];
  clock = {};
  clock.last = std::chrono::steady_clock::now();
  args->replayable = 0;
  return 0;
}

void copyRows(void* target, size_t targetPitch, const void* source, size_t sourcePitch, size_t rowBytes,
              int32_t rows) {
  for (int32_t r = 0; r < rows && rowBytes > 0; ++r)
    std::memcpy(static_cast<char*>(target) + static_cast<size_t>(r) * targetPitch,
                static_cast<const char*>(source) + static_cast<size_t>(r) * sourcePitch, rowBytes);
}

int stage(Context*, const StageArgs* args) {
  for (int32_t i = 0; i < args->numPieces; ++i) {
    const StagePiece& piece = args->pieces[i];
    copyRows(piece.target, piece.targetPitch, static_cast<const char*>(args->block) + piece.offset,
             piece.rowBytes, piece.rowBytes, piece.rows);
  }
  return 0;
}

int resolve(Context* context, const ResolveArgs* args) {
  for (int32_t s = 0; s < args->numSeqs; ++s) {
    int32_t* history = args->history + static_cast<int64_t>(args->seqSlot[s]) * args->maxContext;
    for (int32_t row = args->queryStart[s]; row < args->queryStart[s + 1]; ++row) {
      int32_t& id = args->ids[row];
      const int32_t previous = -1 - id;
      if (id < 0) id = previous < args->numSampled ? args->sampled[previous] : -1;
      if (id < 0 || id >= args->vocabSize)
        return context->fail("token row %d: row %d of the previous step has no token", row, previous);
      history[args->positions[row]] = id;
    }
    args->numPrompt[args->seqSlot[s]] = args->numPromptTokens[s];
  }
  return 0;
}

int copyOut(Context*, const CopyOutArgs* args) {
  copyRows(args->target, args->targetPitch, args->source, args->sourcePitch, args->rowBytes, args->rows);
  return 0;
}

int mark(Context* context, int32_t slot, int32_t stage) {
  StageClock& clock = context->clocks[slot];
  const auto now = std::chrono::steady_clock::now();
  if (stage >= 0)
    clock.microseconds[stage] += std::chrono::duration<double, std::micro>(now - clock.last).count();
  clock.last = now;
  return 0;
}

int waitStep(Context* context, int32_t slot, double* microseconds, char*, size_t) {
  std::memcpy(microseconds, context->clocks[slot].microseconds, sizeof context->clocks[slot].microseconds);
  return 0;
}

int pageHeadDim(int32_t headDim) {
  return headDim;
}

int setKvDType(Context* context, DType dtype) {
  if (dtype != DType::F32 && dtype != DType::F16 && dtype != DType::I8)
    return context->fail("KV cache: expected f32, f16 or i8");
  context->kvDType = dtype;
  return 0;
}

}  // namespace

void fillHostOps(Ops* ops) {
  ops->abiVersion = kOpsAbiVersion;
  ops->activation = DType::F32;
  ops->close = closeContext;
  ops->lastError = lastError;
  ops->alloc = allocate;
  ops->release = release;
  ops->allocHost = allocate;
  ops->releaseHost = release;
  ops->upload = copyBytes;
  ops->download = copyBytes;
  ops->sync = synchronize;
  ops->loadDense = loadDense;
  ops->denseBytes = denseBytes;
  ops->finishLoading = finishLoading;
  ops->beginStep = beginStep;
  ops->stage = stage;
  ops->resolve = resolve;
  ops->copyOut = copyOut;
  ops->mark = mark;
  ops->endStep = mark;
  ops->waitStep = waitStep;
  ops->pageHeadDim = pageHeadDim;
  ops->kvDefault = DType::F32;
  ops->setKvDType = setKvDType;
}

}  // namespace octavo
