// The part of cuBLASLt's interface that matmul_library.cc calls, as versions 12 and 13 have it: the library is
// opened at run time, and its headers are not needed to build. Names are NVIDIA's; the numbers are those of
// cublasLt.h, cublas_api.h and library_types.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "types.h"

namespace octavo::cublaslt {

using Status = int;
constexpr Status kSuccess = 0;

enum DataType : int { kReal32 = 0, kReal16 = 2 };       // cudaDataType: CUDA_R_32F, CUDA_R_16F
enum ComputeType : int { kCompute32 = 68 };             // CUBLAS_COMPUTE_32F
enum Operation : int { kPlain = 0, kTransposed = 1 };   // CUBLAS_OP_N, CUBLAS_OP_T
enum Epilogue : uint32_t { kNoEpilogue = 1, kBias = 4 };  // CUBLASLT_EPILOGUE_DEFAULT, _BIAS

// cublasLtMatmulDescAttributes_t; int32 values but for the pointer
enum DescAttribute : int { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8 };

// cublasLtMatmulPreferenceAttributes_t; bytes, uint64 and then uint32 each
enum PreferenceAttribute : int {
  kMaxWorkspace = 1,
  kMinAlignmentA = 5,
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8
};

struct Algorithm {
  uint64_t data[8];
};

struct HeuristicResult {
  Algorithm algorithm;
  size_t workspaceBytes;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96, "cublasLtMatmulHeuristicResult_t");

using Handle = struct Context*;
using Desc = struct MatmulDesc*;
using Layout = struct MatrixLayout*;
using Preference = struct MatmulPreference*;

// Matrices are column-major: D [rows(D), cols(D)] = alpha op(A) op(B) + beta C, then the epilogue.
struct Functions {
  size_t (*getVersion)();  // 10000 major + 100 minor + patch
  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  Status (*descCreate)(Desc*, ComputeType, DataType scale);
  Status (*descDestroy)(Desc);
  Status (*descSet)(Desc, DescAttribute, const void* value, size_t bytes);
  Status (*layoutCreate)(Layout*, DataType, uint64_t rows, uint64_t cols, int64_t leadingDimension);
  Status (*layoutDestroy)(Layout);
  Status (*preferenceCreate)(Preference*);
  Status (*preferenceDestroy)(Preference);
  Status (*preferenceSet)(Preference, PreferenceAttribute, const void* value, size_t bytes);
  Status (*heuristic)(Handle, Desc, Layout a, Layout b, Layout c, Layout d, Preference, int wanted,
                      HeuristicResult* results, int* found);
  Status (*matmul)(Handle, Desc, const void* alpha, const void* a, Layout, const void* b, Layout,
                   const void* beta, const void* c, Layout, void* d, Layout, const Algorithm*,
                   void* workspace, size_t workspaceBytes, cuda::Stream);
};

}  // namespace octavo::cublaslt
