// Linear layers: y = x W^T + bias over panels of 32 outputs (linear.h), with the epilogues of ops.h.
//
// Every output is one chain of fused multiply-adds along K (INT4: one chain per group, then total += scale *
// chain), in the same order in each variant below, so a row's result is bitwise the same in any batch;
// threads and rows only choose who computes it.
//   direct   a few rows: weights go from memory through registers, once
//   blocked  more rows: a block of a panel is unpacked to f32 in cache and multiplied with 96 rows
#include "linear.h"

#include <cmath>

#include "context.h"

namespace octavo::cpu {
namespace {

constexpr int kBlockK = 256;            // inputs of a block
constexpr int kBlockRows = 96;          // rows of a block; a multiple of every kMicroRows
constexpr int kXStride = kBlockK + 16;  // not a power of two: rows would share cache sets
constexpr int kPanelsPerItem = 4;       // panels that share one copy of the rows

// Scratch of one thread.
struct BlockScratch {
  alignas(64) float weights[kBlockK * kPanel];                    // [strips][K][columns of a strip]
  alignas(64) float x[kBlockRows * kXStride];                     // [rows][kXStride]
  alignas(64) float total[kPanelsPerItem * kBlockRows * kPanel];  // [panels][rows][32]
  alignas(64) float chain[kPanelsPerItem * kBlockRows * kPanel];  // INT4: within a group
};

}  // namespace
}  // namespace octavo::cpu

#define OCTAVO_KERNEL_FILE "linear_kernels.h"
#include "foreach_isa.h"

namespace octavo::cpu {

size_t linearScratchBytes() {
  return sizeof(BlockScratch);
}

int linear(Context* base, const LinearArgs* args) {
  CpuContext* context = self(base);
  const auto& weight = *static_cast<const CpuLinear*>(args->weight);
  if ((args->epilogue == Epilogue::SiluMul) != weight.siluMulPairs)
    return context->fail("linear: epilogue SiluMul goes with weights loaded as siluMulPairs");
  if (args->rows <= 0) return 0;
  if (weight.type == PanelType::Int4 && context->options.int8Activations) return linearInt8(context, args);
  const auto directRows = OCTAVO_SELECT(context->isa, maxDirectRows)();
  const auto direct = OCTAVO_SELECT(context->isa, linearDirect);
  const auto blocked = OCTAVO_SELECT(context->isa, linearBlocked);
  const bool isDirect = args->rows <= directRows;
  const int64_t blocks = isDirect ? 1 : (args->rows + kBlockRows - 1) / kBlockRows;
  const int64_t panelsPerItem = args->rows >= 24 ? kPanelsPerItem : 1;
  const int64_t panelItems = (weight.panels + panelsPerItem - 1) / panelsPerItem;
  const auto compute = [&](int64_t index, int thread) {
    LinearItem item{&weight, args->in, args->out, args->epilogue, 0, 0, 0, 0};
    item.first = index / panelItems * kBlockRows;
    item.rows = static_cast<int>(args->rows - item.first < kBlockRows ? args->rows - item.first : kBlockRows);
    item.firstPanel = index % panelItems * panelsPerItem;
    item.lastPanel =
        item.firstPanel + panelsPerItem < weight.panels ? item.firstPanel + panelsPerItem : weight.panels;
    if (isDirect) {
      direct(item);
    } else {
      blocked(item, static_cast<BlockScratch*>(context->scratch(thread)));
    }
  };
  if (args->rows * weight.n * weight.k < kParallelWork) {
    for (int64_t i = 0; i < blocks * panelItems; ++i) compute(i, 0);
  } else {
    context->pool.run(blocks * panelItems, compute);
  }
  return 0;
}

}  // namespace octavo::cpu
