// Weights on their way to the device: packed (int4) or rounded to fp16 by all threads into pinned memory, and
// copied while the next ones are packed.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <system_error>
#include <thread>

#include "../half.h"
#include "backend.h"
#include "int4_tiles.h"

namespace octavo::cuda {
namespace {

int64_t roundUp(int64_t value, int64_t to) {
  return (value + to - 1) / to * to;
}

// body(first, last) over [0, count) in parts, on `threads` threads; all on this one where none can be had.
template <class Body>
void inParallel(int threads, int64_t count, const Body& body) {
  const int64_t parts = std::clamp<int64_t>(count, 1, threads);
  std::vector<std::thread> helpers;
  for (int64_t t = 1; t < parts; ++t) {
    try {
      helpers.emplace_back(body, count * t / parts, count * (t + 1) / parts);
    } catch (const std::system_error&) {
      body(count * t / parts, count * (t + 1) / parts);
    }
  }
  body(0, count / parts);
  for (std::thread& helper : helpers) helper.join();
}

// Pinned memory that no copy reads any more, or null with the reason recorded.
char* nextStage(CudaContext* context, size_t bytes, LoadStage** taken) {
  LoadStage& stage = context->stages[context->nextStage ^= 1];
  if (context->check(gpu::synchronize(stage.copied), "copy of weights") != 0) return nullptr;
  if (stage.bytes < bytes) {
    if (stage.memory) gpu::releaseHost(stage.memory);
    stage = {nullptr, 0, stage.copied};
    void* memory = nullptr;
    if (context->check(gpu::allocateHost(&memory, bytes), "pinned memory to load by") != 0) return nullptr;
    stage.memory = static_cast<char*>(memory);
    stage.bytes = bytes;
  }
  *taken = &stage;
  return stage.memory;
}

// Device memory that gets `bytes` of the stage; null with the reason recorded.
void* send(CudaContext* context, LoadStage* stage, size_t bytes) {
  void* target = context->take(bytes);
  if (!target) return nullptr;
  int status = gpu::record(context->computed, context->compute);  // take() clears it there
  if (status == 0) status = gpu::wait(context->copyIn, context->computed);
  if (status == 0) status = gpu::copy(target, stage->memory, bytes, context->copyIn);
  if (status == 0) status = gpu::record(stage->copied, context->copyIn);
  return context->check(status, "copy of weights") == 0 ? target : nullptr;
}

// fp16 of values [first, last) of a tensor; false: one of them is finite and too large.
bool toHalves(const HostTensor& source, int64_t first, int64_t last, Half* to) {
  bool fits = true;
  for (int64_t i = first; i < last; ++i) {
    const float value = readFloat(source.data, source.dtype, i);
    to[i - first].bits = floatToHalf(value);
    if (std::isfinite(value) && (to[i - first].bits & 0x7c00u) == 0x7c00u) fits = false;
  }
  return fits;
}

bool refuseRange(CudaContext* context, bool fits) {
  if (!fits) context->fail("a value is beyond the range of fp16 (65504), which this device computes in");
  return !fits;
}

// Row `column` of the padded dense form: where it comes from. Null: padding.
const LinearPart* partOfColumn(const LinearSource& source, int64_t column, int64_t* n) {
  if (source.siluMulPairs) {
    const LinearPart& part = source.parts[column % 16 / 8];
    *n = column / 16 * 8 + column % 8;
    return *n < part.n ? &part : nullptr;
  }
  if (column >= source.n) return nullptr;
  *n = column;
  int part = 0;
  while (*n >= source.parts[part].n) *n -= source.parts[part++].n;
  return &source.parts[part];
}

bool hasBias(const LinearSource& source) {
  return std::any_of(source.parts, source.parts + source.numParts,
                     [](const LinearPart& part) { return part.bias.data != nullptr; });
}

// Columns before the tiles' padding: pairs are whole blocks of 8.
int64_t columnsOf(const LinearSource& source) {
  return source.siluMulPairs ? 2 * roundUp(source.parts[0].n, 8) : source.n;
}

struct LinearSizes {
  int64_t n, k;                         // padded
  size_t weights, scales, zeros, bias;  // bytes, each on 256
  size_t total() const { return weights + scales + zeros + bias; }
};

LinearSizes sizesOf(const LinearSource& source) {
  const auto aligned = [](int64_t bytes) { return static_cast<size_t>(roundUp(bytes, 256)); };
  LinearSizes sizes{};
  if (source.scheme == LinearScheme::Dense) {
    sizes.n = columnsOf(source);
    sizes.k = roundUp(source.k, 8);
    sizes.weights = aligned(sizes.n * sizes.k * int64_t(sizeof(Half)));
  } else {
    const Int4Shape shape = int4Shape(source);
    sizes.n = shape.n;
    sizes.k = shape.k;
    sizes.weights = aligned(shape.codes() * int64_t(sizeof(Words4)));
    if (shape.groupSize > 0) {
      sizes.scales = aligned(shape.scales() * int64_t(sizeof(Half)));
      sizes.zeros = aligned(shape.scales());
    }
  }
  if (hasBias(source)) sizes.bias = aligned(sizes.n * int64_t(sizeof(Half)));
  return sizes;
}

// All columns of a dense linear to fp16, in the padded form; false: out of range.
bool packDense(const LinearSource& source, const LinearSizes& sizes, int threads, Half* to, Half* bias) {
  std::atomic<bool> fits{true};
  inParallel(threads, sizes.n, [&](int64_t first, int64_t last) {
    for (int64_t column = first; column < last; ++column) {
      int64_t n = 0;
      const LinearPart* part = partOfColumn(source, column, &n);
      Half* row = to + column * sizes.k;
      std::fill(row + (part ? source.k : 0), row + sizes.k, Half{0});
      if (bias) bias[column] = Half{0};
      if (!part) continue;
      if (!toHalves(part->weight, n * source.k, (n + 1) * source.k, row)) fits = false;
      if (part->bias.data && !toHalves(part->bias, n, n + 1, bias + column)) fits = false;
    }
  });
  return fits;
}

// The layer in its device form, in the stage: weights, scales, zeros, bias.
bool pack(CudaContext* context, const LinearSource& source, const LinearSizes& sizes, char* stage) {
  char* scales = stage + sizes.weights;
  auto* bias = sizes.bias ? reinterpret_cast<Half*>(scales + sizes.scales + sizes.zeros) : nullptr;
  if (source.scheme == LinearScheme::Dense)
    return !refuseRange(context,
                        packDense(source, sizes, context->threads, reinterpret_cast<Half*>(stage), bias));
  const Int4Shape shape = int4Shape(source);
  inParallel(context->threads, shape.n / kInt4Slab, [&](int64_t first, int64_t last) {
    packInt4(source, shape, static_cast<int>(first), static_cast<int>(last), reinterpret_cast<Words4*>(stage),
             reinterpret_cast<Half*>(scales), reinterpret_cast<uint8_t*>(scales + sizes.scales), bias);
  });
  return true;
}

}  // namespace

void bindLinear(CudaLinear* linear, const LinearSource& source, char* memory) {
  const LinearSizes sizes = sizesOf(source);
  linear->k = source.k;
  linear->n = source.n;
  linear->int4 = source.scheme != LinearScheme::Dense;
  linear->pairs = source.siluMulPairs != 0;
  linear->outputs = static_cast<int>(linear->pairs ? source.parts[0].n : source.n);
  linear->paddedN = static_cast<int>(sizes.n);
  linear->paddedK = static_cast<int>(sizes.k);
  if (!memory) return;
  if (linear->int4) {
    linear->codes = {reinterpret_cast<const Words4*>(memory),
                     reinterpret_cast<const Half*>(memory + sizes.weights),
                     reinterpret_cast<const uint8_t*>(memory + sizes.weights + sizes.scales),
                     linear->paddedN,
                     linear->paddedK,
                     int4Shape(source).groupSize};
  } else {
    linear->dense = reinterpret_cast<const Half*>(memory);
  }
  if (sizes.bias) linear->bias = reinterpret_cast<const Half*>(memory + sizes.total() - sizes.bias);
}

namespace {

Linear* keepLinear(CudaContext* context, const LinearSource& source, char* memory) {
  auto* linear = new (std::nothrow) CudaLinear;
  if (!linear) return nullptr;
  bindLinear(linear, source, memory);
  chooseTiles(context, linear, source.groupSize);
  linear->next = context->linears;
  context->linears = linear;
  return linear;
}

// Whether the linear's form is the table's: fp16 rows without padding, nothing beside them.
bool sharesTable(const LinearSource& source) {
  return source.table && source.scheme == LinearScheme::Dense && source.numParts == 1 && source.k % 8 == 0 &&
         !source.siluMulPairs && !hasBias(source);
}

}  // namespace

Linear* loadLinear(Context* base, const LinearSource* source) {
  CudaContext* context = self(base);
  if (!checkLinearSource(base, *source)) return nullptr;
  if (source->scheme != LinearScheme::Dense && int4Shape(*source).groupSize == 0) {
    base->fail("group size %d: expected 32, 64 or a multiple of 128", source->groupSize);
    return nullptr;
  }
  const LinearSizes sizes = sizesOf(*source);
  if (sharesTable(*source)) {
    // Weights are only read.
    char* memory = static_cast<char*>(const_cast<void*>(source->table->data));
    return keepLinear(context, *source, memory);
  }
  LoadStage* stage = nullptr;
  char* packed = nextStage(context, sizes.total(), &stage);
  if (!packed || !pack(context, *source, sizes, packed)) return nullptr;
  auto* memory = static_cast<char*>(send(context, stage, sizes.total()));
  return memory ? keepLinear(context, *source, memory) : nullptr;
}

Dense* loadDense(Context* base, const HostTensor* source, int) {
  CudaContext* context = self(base);
  if (!source->data || source->dtype == DType::I32) {
    base->fail("dense tensor: expected f32, f16 or bf16 data");
    return nullptr;
  }
  LoadStage* stage = nullptr;
  const size_t bytes = denseBytes(source, 0);
  auto* halves = reinterpret_cast<Half*>(nextStage(context, bytes, &stage));
  if (!halves) return nullptr;
  std::atomic<bool> fits{true};
  inParallel(context->threads, source->rows, [&](int64_t first, int64_t last) {
    if (!toHalves(*source, first * source->cols, last * source->cols, halves + first * source->cols))
      fits = false;
  });
  if (refuseRange(context, fits)) return nullptr;
  const void* memory = send(context, stage, bytes);
  auto* dense = memory ? new (std::nothrow) Dense : nullptr;
  if (!dense) return nullptr;
  dense->rows = source->rows;
  dense->cols = source->cols;
  dense->dtype = DType::F16;
  dense->data = memory;
  dense->next = base->denses;
  base->denses = dense;
  return dense;
}

size_t linearBytes(const LinearSource* source) {
  return sharesTable(*source) ? 0 : sizesOf(*source).total();
}

size_t denseBytes(const HostTensor* source, int) {
  return static_cast<size_t>(source->rows * source->cols) * sizeof(Half);
}

int finishLoading(Context* base) {
  CudaContext* context = self(base);
  int status = gpu::synchronize(context->copyIn);
  // Memory is cleared on this one: before other streams bring anything there.
  if (status == 0) status = gpu::synchronize(context->compute);
  for (LoadStage& stage : context->stages) {
    if (stage.memory) gpu::releaseHost(stage.memory);
    stage = {nullptr, 0, stage.copied};
  }
  return context->check(status, "loading");
}

}  // namespace octavo::cuda
