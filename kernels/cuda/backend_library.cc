// Linears of many rows by the matmul library: INT4 weights a slice at a time as fp16, which the L2 still holds
// when the product reads it.
#include <algorithm>

#include "backend.h"

namespace octavo::cuda {
namespace {

int sliceColumns(int n, int k, size_t sliceBytes) {
  const size_t fitting = sliceBytes / (static_cast<size_t>(k) * sizeof(Half)) / kInt4Slab * kInt4Slab;
  return std::min(n, static_cast<int>(std::max<size_t>(fitting, kInt4Slab)));
}

}  // namespace

bool libraryComputes(const CudaLinear& weight, int rows) {
  // Columns of a row's padding have to be written too: weights have them in whole blocks of 8, or not at all.
  return rows >= kLeastLibraryRows && weight.paddedN % 8 == 0 &&
         (weight.int4 || weight.pairs || weight.outputs % 8 == 0);
}

size_t librarySliceBytes(const CudaLinear& weight) {
  if (!weight.int4) return 0;
  return static_cast<size_t>(sliceColumns(weight.paddedN, weight.paddedK, kLibrarySliceBytes)) *
         weight.paddedK * sizeof(Half);
}

size_t libraryPairBytes(const CudaLinear& weight, int rows) {
  if (!weight.pairs) return 0;
  return static_cast<size_t>(rows) * sliceColumns(weight.paddedN, weight.paddedK, kLibrarySliceBytes) *
         sizeof(Half);
}

int libraryLinear(CudaContext* context, const CudaLinear& weight, const LinearCall<Half, Half>& call) {
  const LibraryScratch& scratch = context->scratch.library;
  const gpu::Stream stream = context->compute;
  const int step = sliceColumns(weight.paddedN, weight.paddedK, context->sliceBytes);
  for (int first = 0, status = 0; first < weight.paddedN; first += step) {
    const int columns = std::min(step, weight.paddedN - first);
    const Half* slice = weight.int4 ? scratch.slice : weight.dense + static_cast<int64_t>(first) * weight.paddedK;
    if (weight.int4) status = dequantizeInt4(weight.codes, first, columns, scratch.slice, stream);
    const int firstOut = weight.pairs ? first / 2 : first;
    const int width = std::min(weight.pairs ? columns / 2 : columns, call.outWidth - firstOut);
    if (status != 0 || width <= 0) return status;
    MatmulCall product{};
    product.in = call.in;
    product.inStride = call.inStride;
    product.weight = slice;
    product.weightStride = weight.paddedK;
    product.out = weight.pairs ? scratch.pairs : call.out + firstOut;
    product.outStride = weight.pairs ? columns : call.outStride;
    product.rows = call.rows;
    product.n = weight.pairs ? columns : width;
    product.k = call.inWidth;
    product.bias = call.bias ? call.bias + first : nullptr;
    product.accumulate = call.epilogue == LinearEpilogue::Residual;
    product.workspace = scratch.workspace;
    status = context->library->multiply(product, stream);
    if (status == 0 && weight.pairs)
      status = siluMulBlocks(scratch.pairs, columns, call.out + firstOut, call.outStride, call.rows, width, stream);
    if (status != 0) return status;
  }
  return 0;
}

int describeMatmulLibrary(char* text, size_t textSize) {
  std::string reason;
  const std::unique_ptr<MatmulLibrary> library = MatmulLibrary::open(&reason);
  std::snprintf(text, textSize, "%s", library ? library->version().c_str() : reason.c_str());
  return library ? 0 : 1;
}

}  // namespace octavo::cuda
