// What the two host backends (reference and cpu) share: contexts, memory, dense tensors and errors. Both are
// linked into one addon, so the opaque types of ops.h are defined once, here, as bases that each backend
// extends.
#pragma once
#include <chrono>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "growing_memory.h"
#include "half.h"
#include "ops.h"

namespace octavo {

// Zeroed, 64-byte aligned memory, or null. Large blocks are zero pages until they are touched.
void* allocateAligned(size_t bytes);
// The same for memory that will all be used: in huge pages from the first one on where the system has them.
void* allocateForWeights(size_t bytes);
void freeAligned(void* memory);

// An owned array of plain values: no exceptions, so that a failed allocation stays an error code.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { freeAligned(data_); }

  // Zeroed room for `count` values; what was there is lost. False: no memory, and the buffer is empty.
  bool allocate(size_t count) { return take(allocateAligned, count); }
  // The same for weights, which are all read again and again (allocateForWeights).
  bool allocateWeights(size_t count) { return take(allocateForWeights, count); }
  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  bool take(void* (*from)(size_t bytes), size_t count) {
    freeAligned(data_);
    data_ = static_cast<T*>(from((count ? count : 1) * sizeof(T)));
    size_ = data_ ? count : 0;
    return data_ != nullptr;
  }

  T* data_ = nullptr;
  size_t size_ = 0;
};

struct Linear {
  virtual ~Linear() = default;
  Linear* next = nullptr;  // of the context's list
  int64_t k = 0, n = 0;
};

struct Dense {
  Dense* next = nullptr;
  int64_t rows = 0, cols = 0;
  DType dtype = DType::F32;
  const void* data = nullptr;  // [rows, cols]: `owned` as f32, or the source in place (perhaps unaligned)
  Buffer<float> owned;
};

struct Allocation {
  Allocation* next;
  GrowingMemory memory;
};

// Microseconds of one slot's step by stage.
struct StageClock {
  std::chrono::steady_clock::time_point last;
  double microseconds[kMaxStepStages];
};

struct Context {
  explicit Context(const OpenOptions& openOptions) : options(openOptions) {}
  virtual ~Context();

  // Records why an op failed and returns the non-zero that the op then returns.
  int fail(const char* format, ...) __attribute__((format(printf, 2, 3)));

  OpenOptions options;
  DType kvDType = DType::F32;
  char error[256] = "";
  Linear* linears = nullptr;
  Dense* denses = nullptr;
  Allocation* allocations = nullptr;
  uint64_t numAllocated = 0;  // so far
  StageClock clocks[kStepSlots] = {};
};

// Fills the entries of a table that do not compute: memory, dense tensors, the steps' copies, errors.
void fillHostOps(Ops* ops);

// Whether `source` describes a linear that the host backends can load; false: the reason is in the context's
// error.
bool checkLinearSource(Context* context, const LinearSource& source);

inline float* rowOf(const Rows& rows, int64_t row) {
  return static_cast<float*>(rows.data) + row * rows.stride;
}

// Element (row, col) as f32.
inline float denseAt(const Dense& dense, int64_t row, int64_t col) {
  return readFloat(dense.data, dense.dtype, row * dense.cols + col);
}

// A head's keys (part 0) or values (part 1) in a block. Keys lie [headDim][kBlockSize], so that a vector
// holds one dimension of several positions; values lie [kBlockSize][headDim]. I8: the scales [kBlockSize]
// follow.
inline unsigned char* kvHead(const KvLayer& kv, DType dtype, int64_t block, int part, int32_t head) {
  return static_cast<unsigned char*>(kv.pages) +
         ((block * 2 + part) * kv.numKvHeads + head) * static_cast<int64_t>(kvHeadBytes(dtype, kv.headDim));
}

// Where the numbers of the token at `offset` in a block begin, and how far they are apart, in elements.
struct KvStride {
  int32_t start, step;
};
inline KvStride kvStride(const KvLayer& kv, int part, int32_t offset) {
  return part == 0 ? KvStride{offset, kBlockSize} : KvStride{offset * kv.headDim, 1};
}

inline float* kvScales(const KvLayer& kv, unsigned char* head) {
  return reinterpret_cast<float*>(head + kBlockSize * kv.headDim);
}

// I8 pages: byte = round(x * inverse), number = byte * scale. `highest` is the largest magnitude of a token's
// head. What is not finite can't be told by a byte: the scale is NaN, and so is whatever reads it.
struct KvScale {
  float scale, inverse;
};
inline KvScale kvScaleOf(float highest, bool finite) {
  if (!finite) return {bitsToFloat(0x7fc00000u), 0};
  const float inverse = 127.0f / highest;
  // Too small to divide by: nothing that a score or a value could show.
  return inverse <= 3.4028235e38f ? KvScale{highest / 127.0f, inverse} : KvScale{0, 0};
}

}  // namespace octavo
