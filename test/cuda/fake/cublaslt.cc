// A stand-in for cuBLASLt: the same functions over host memory, by plain loops. It is strict where the real one
// would compute nonsense or crash: descriptors have to agree with each other, with pointers and with leading
// dimensions. FAKE_CUBLASLT_STATUS=n makes every product fail with that status.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../../../kernels/cuda/cublaslt_abi.h"
#include "../../../kernels/half.h"

using namespace octavo::cublaslt;

namespace octavo::cublaslt {

struct Context {
  int unused;
};

struct MatmulDesc {
  int32_t transA = kPlain, transB = kPlain;
  uint32_t epilogue = kNoEpilogue;
  const uint16_t* bias = nullptr;
};

struct MatrixLayout {
  uint64_t rows, cols;
  int64_t leadingDimension;
};

struct MatmulPreference {
  uint64_t workspace = 0;
  uint32_t alignments = 0;  // how many of the four were set to 16
};

}  // namespace octavo::cublaslt

namespace {

constexpr Status kInvalid = 7;
constexpr uint64_t kAlgorithmTag = 0x616c676f;
int calls = 0, objects = 0;

template <class T, class... Arguments>
Status make(T** target, Arguments... arguments) {
  *target = new T{arguments...};
  ++objects;
  return kSuccess;
}

template <class T>
Status destroyed(T* object) {
  delete object;
  --objects;
  return kSuccess;
}

bool aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

bool fits(const MatrixLayout& m) {
  return m.leadingDimension >= static_cast<int64_t>(m.rows) && m.leadingDimension % 8 == 0;
}

// Whether op(A) op(B) is a matrix of D's shape.
bool agree(const MatmulDesc& desc, const MatrixLayout& a, const MatrixLayout& b, const MatrixLayout& d) {
  const uint64_t m = desc.transA == kTransposed ? a.cols : a.rows;
  const uint64_t kA = desc.transA == kTransposed ? a.rows : a.cols;
  const uint64_t n = desc.transB == kTransposed ? b.rows : b.cols;
  const uint64_t kB = desc.transB == kTransposed ? b.cols : b.rows;
  return m == d.rows && n == d.cols && kA == kB && fits(a) && fits(b) && fits(d);
}

float element(const uint16_t* data, const MatrixLayout& m, int32_t op, uint64_t row, uint64_t col) {
  const uint64_t r = op == kTransposed ? col : row, c = op == kTransposed ? row : col;
  return octavo::halfToFloat(data[c * static_cast<uint64_t>(m.leadingDimension) + r]);
}

}  // namespace

extern "C" {

int fakeCalls() {
  return calls;
}
int fakeObjects() {
  return objects;
}

size_t cublasLtGetVersion() {
  return 130203;
}
Status cublasLtCreate(Handle* handle) {
  return make(handle, 0);
}
Status cublasLtDestroy(Handle handle) {
  return destroyed(handle);
}

Status cublasLtMatmulDescCreate(Desc* desc, ComputeType compute, DataType scale) {
  return compute == kCompute32 && scale == kReal32 ? make(desc) : kInvalid;
}
Status cublasLtMatmulDescDestroy(Desc desc) {
  return destroyed(desc);
}
Status cublasLtMatmulDescSetAttribute(Desc desc, DescAttribute attribute, const void* value, size_t bytes) {
  const auto set = [&](auto& field) {
    if (bytes != sizeof field) return kInvalid;
    std::memcpy(&field, value, bytes);
    return kSuccess;
  };
  switch (attribute) {
    case kTransA:
      return set(desc->transA);
    case kTransB:
      return set(desc->transB);
    case kEpilogue:
      return set(desc->epilogue);
    case kBiasPointer:
      return set(desc->bias);
  }
  return kInvalid;
}

Status cublasLtMatrixLayoutCreate(Layout* layout, DataType type, uint64_t rows, uint64_t cols, int64_t stride) {
  return type == kReal16 && rows > 0 && cols > 0 ? make(layout, rows, cols, stride) : kInvalid;
}
Status cublasLtMatrixLayoutDestroy(Layout layout) {
  return destroyed(layout);
}

Status cublasLtMatmulPreferenceCreate(Preference* preference) {
  return make(preference);
}
Status cublasLtMatmulPreferenceDestroy(Preference preference) {
  return destroyed(preference);
}
Status cublasLtMatmulPreferenceSetAttribute(Preference preference, PreferenceAttribute attribute,
                                            const void* value, size_t bytes) {
  if (attribute == kMaxWorkspace) {
    if (bytes != sizeof preference->workspace) return kInvalid;
    std::memcpy(&preference->workspace, value, bytes);
    return kSuccess;
  }
  uint32_t alignment = 0;
  if (bytes != sizeof alignment) return kInvalid;
  std::memcpy(&alignment, value, bytes);
  preference->alignments += alignment == 16;
  return kSuccess;
}

Status cublasLtMatmulAlgoGetHeuristic(Handle, Desc desc, Layout a, Layout b, Layout c, Layout d,
                                      Preference preference, int wanted, HeuristicResult* results, int* found) {
  const bool biased = desc->epilogue == kBias;
  if (wanted < 1 || preference->alignments != 4 || preference->workspace == 0 || !agree(*desc, *a, *b, *d) ||
      c->rows != d->rows || c->cols != d->cols || biased != (desc->bias != nullptr))
    return kInvalid;
  results[0] = HeuristicResult{};
  results[0].algorithm.data[0] = kAlgorithmTag;
  results[0].workspaceBytes = preference->workspace;
  *found = 1;
  return kSuccess;
}

#if defined(WITHOUT_MATMUL)
#define cublasLtMatmul notCublasLtMatmul
#endif
Status cublasLtMatmul(Handle, Desc desc, const void* alpha, const void* aData, Layout a, const void* bData,
                      Layout b, const void* beta, const void* cData, Layout c, void* dData, Layout d,
                      const Algorithm* algorithm, void* workspace, size_t workspaceBytes, octavo::cuda::Stream) {
  ++calls;
  if (const char* status = std::getenv("FAKE_CUBLASLT_STATUS")) return std::atoi(status);
  const bool biased = desc->epilogue == kBias;
  if (!agree(*desc, *a, *b, *d) || algorithm->data[0] != kAlgorithmTag || !aligned(aData) || !aligned(bData) ||
      !aligned(dData) || (biased && (!desc->bias || !aligned(desc->bias))))
    return kInvalid;
  std::memset(workspace, 0xff, workspaceBytes);  // whoever else uses it notices
  const auto scale = *static_cast<const float*>(alpha), old = *static_cast<const float*>(beta);
  for (uint64_t col = 0; col < d->cols; ++col) {
    for (uint64_t row = 0; row < d->rows; ++row) {
      float sum = 0;
      const uint64_t inner = desc->transA == kTransposed ? a->rows : a->cols;
      for (uint64_t k = 0; k < inner; ++k)
        sum += element(static_cast<const uint16_t*>(aData), *a, desc->transA, row, k) *
               element(static_cast<const uint16_t*>(bData), *b, desc->transB, k, col);
      float y = scale * sum;
      if (old != 0) y += old * element(static_cast<const uint16_t*>(cData), *c, kPlain, row, col);
      if (biased) y += octavo::halfToFloat(desc->bias[row]);
      static_cast<uint16_t*>(dData)[col * static_cast<uint64_t>(d->leadingDimension) + row] =
          octavo::floatToHalf(y);
    }
  }
  return kSuccess;
}
}
