// Memory, dense tensors and errors of the host backends.
#include "host.h"

#include <cstdio>
#include <cstring>

namespace octavo {

// calloc leaves large blocks untouched, which a memset after an aligned allocation would not: a KV cache then
// takes physical memory as it fills. The original pointer lies just before the aligned one.
void* allocateAligned(size_t bytes) {
  constexpr size_t kAlign = 64;
  if (bytes > SIZE_MAX - 2 * kAlign) return nullptr;
  void* original = std::calloc(bytes + 2 * kAlign, 1);
  if (!original) return nullptr;
  const auto address = reinterpret_cast<uintptr_t>(original);
  const uintptr_t aligned = (address + sizeof(void*) + kAlign - 1) / kAlign * kAlign;
  void* memory = reinterpret_cast<void*>(aligned);
  static_cast<void**>(memory)[-1] = original;
  return memory;
}

void freeAligned(void* memory) {
  if (memory) std::free(static_cast<void**>(memory)[-1]);
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
    freeAligned(allocations->memory);
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
  auto* entry = new (std::nothrow) Allocation{context->allocations, nullptr};
  if (!entry) return nullptr;
  entry->memory = allocateAligned(bytes);
  if (!entry->memory) {
    context->fail("no memory for %zu bytes", bytes);
    delete entry;
    return nullptr;
  }
  context->allocations = entry;
  return entry->memory;
}

void release(Context* context, void* memory) {
  for (Allocation** link = &context->allocations; *link; link = &(*link)->next) {
    Allocation* entry = *link;
    if (entry->memory != memory) continue;
    *link = entry->next;
    freeAligned(memory);
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

int setKvDType(Context* context, DType dtype) {
  if (dtype != DType::F32 && dtype != DType::F16) return context->fail("KV cache: expected f32 or f16");
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
  ops->kvDefault = DType::F32;
  ops->setKvDType = setKvDType;
}

}  // namespace octavo
