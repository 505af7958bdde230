// INT4 linears with 8-bit activations: integer dot products of 32 inputs, scaled and added up in floats in
// the order of int8_activations.h, so that every variant, batch and instruction set gives the same bits.
//
// A call rounds its rows once; then threads take panels:
//   a few rows   codes go from memory through registers, once for all of them
//   more rows    a group of a panel is unpacked to bytes in cache and multiplied with up to 96 rows
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../int8_activations.h"
#include "linear.h"

namespace octavo::cpu {
namespace {

constexpr int kTileRows = 96;         // rows that share an unpacked group; a multiple of every kByteRows
constexpr int64_t kUnpackWords = 32;  // words of a group that is unpacked at most: 256 inputs
constexpr int64_t kItemBytes = 1 << 16;
constexpr int64_t kParallelValues = 16384;  // values of rows that are worth more than one thread to round

// Scratch of one thread.
struct Int8Scratch {
  alignas(64) uint32_t codes[kUnpackWords * 2 * kPanel];  // [words][low, high half of the bytes][32]
  alignas(64) float totals[kTileRows * kPanel];           // [rows][32]
};

// The rounded rows of one call as kernels read them; strides as in Int8Layout.
struct Int8View {
  const Int8Layout& layout;
  const int8_t* codes;
  const float *scales, *sums;
};

}  // namespace
}  // namespace octavo::cpu

#define OCTAVO_VNNI
#define OCTAVO_KERNEL_FILE "linear_int8_kernels.h"
#include "foreach_isa.h"

namespace octavo::cpu {

Int8Layout::Int8Layout(const CpuLinear& weight)
    : groupCodes(weight.groupWords * 8),
      groupBlocks((weight.groupSize + kInt8Block - 1) / kInt8Block),
      codeStride(((weight.groups * groupCodes + 63) / 64 | 1) * 64),
      scaleStride(weight.groups * groupBlocks),
      sumStride(weight.groups) {}

bool Int8Rows::reserve(const CpuLinear& weight, int64_t maxRows) {
  const Int8Layout layout(weight);
  const int64_t wanted = maxRows < kInt8MaxRows ? maxRows : kInt8MaxRows;
  if (rows == 0) rows = wanted > 0 ? wanted : 1;
  const auto grow = [&](auto& buffer, int64_t stride) {
    const auto size = static_cast<size_t>(rows * stride);
    return buffer.size() >= size || buffer.allocate(size);
  };
  return grow(codes, layout.codeStride) && grow(scales, layout.scaleStride) && grow(sums, layout.sumStride);
}

size_t linearInt8ScratchBytes() {
  return sizeof(Int8Scratch);
}

namespace {

// Rounds rows [first, first + rows) of the call.
void roundRows(CpuContext* context, const LinearArgs& args, const CpuLinear& weight, const Int8Layout& layout,
               int64_t first, int64_t rows) {
  const auto round = OCTAVO_SELECT(context->isa, roundRow);
  Int8Rows& memory = context->int8Rows;
  const auto one = [&](int64_t r, int) {
    round(weight, layout, rowOf(args.in, first + r), memory.codes.data() + r * layout.codeStride,
          memory.scales.data() + r * layout.scaleStride, memory.sums.data() + r * layout.sumStride);
  };
  if (rows * weight.k < kParallelValues) {
    for (int64_t r = 0; r < rows; ++r) one(r, 0);
  } else {
    context->pool.run(rows, one);
  }
}

// A thread reads at least kItemBytes in a row, so that what it asks for ahead of a panel's end is its own
// next panel, as long as every thread has several items.
int64_t panelsPerItem(const CpuLinear& weight, int64_t tiles, int threads) {
  if (tiles > 1) return 1;
  const int64_t wanted = kItemBytes / static_cast<int64_t>(weight.panelBytes) + 1;
  const int64_t most = weight.panels / (8 * int64_t(threads));
  return std::max<int64_t>(1, std::min(wanted, most));
}

}  // namespace

int linearInt8(CpuContext* context, const LinearArgs* args) {
  const auto& weight = *static_cast<const CpuLinear*>(args->weight);
  const Int8Layout layout(weight);
  const Int8Rows& memory = context->int8Rows;
  const Int8View view{layout, memory.codes.data(), memory.scales.data(), memory.sums.data()};
  const auto multiply = OCTAVO_SELECT(context->isa, linearTile);
  for (int64_t first = 0; first < args->rows; first += memory.rows) {
    const int64_t rows = std::min<int64_t>(args->rows - first, memory.rows);
    roundRows(context, *args, weight, layout, first, rows);
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
    const int64_t together = panelsPerItem(weight, tiles, context->pool.threads());
    const int64_t items = (weight.panels + together - 1) / together;
    // Tiles of one panel follow each other: its codes stay in the cache.
    const auto compute = [&](int64_t index, int thread) {
      const int64_t p = index / tiles * together, row = index % tiles * kTileRows;
      const int count = static_cast<int>(std::min<int64_t>(rows - row, kTileRows));
      const LinearItem item{&weight,     args->in, args->out, args->epilogue,
                            first + row, count,    p,         std::min(p + together, weight.panels)};
      multiply(item, view, row, static_cast<Int8Scratch*>(context->scratch(thread)));
    };
    if (rows * weight.n * weight.k < kParallelWork) {
      for (int64_t i = 0; i < items * tiles; ++i) compute(i, 0);
    } else {
      context->pool.run(items * tiles, compute);
    }
  }
  return 0;
}

}  // namespace octavo::cpu
