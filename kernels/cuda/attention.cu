// Paged attention: attention_plan.h cuts the work, attention_decode.h and attention_prefill.h do it.
//
// Decode. Bytes: context * numKvHeads * headDim * 4 per sequence and layer; FLOP: 4 * context * numHeads *
// headDim, on 16 rows whatever the group size. Llama-3.1-8B at 8k context: 33.5 MB a sequence, 7.8 us at the
// floor of an H200, 44 us of an A6000. Expected share of the floor: 70 % on H200 (one sequence is 128 blocks,
// one for each SM), 80 % on A6000. One segment per block, so that even one sequence fills the device; 64
// positions a step, 35 KB of keys and values, of which one half loads while the other is used; 43 KB of
// shared memory, so that blocks also overlap. Prefill. FLOP: 4 * rows * context * numHeads * headDim;
// expected 45 % of the mma.sync rate on both GPUs. 64 or 128 rows share each tile of keys. A warp keeps 16
// rows' running sums and the segment's (64 + 64 registers at head dim 128) and 64 scores. No GPU has
// confirmed these figures yet.
#include "attention_decode.h"
#include "attention_prefill.h"

namespace octavo::cuda {
namespace {

template <int kHeadDim>
int launchDecode(const AttentionCall& call, Grid grid, Stream stream) {
  static_assert(DecodeShared<kHeadDim>::kBytes <= kMostSharedBytes, "sm_86");
  return launch(attentionDecodeKernel<kHeadDim>, grid, 128, DecodeShared<kHeadDim>::kBytes, stream, call);
}

template <int kHeadDim, int kRows>
int launchPrefill(const AttentionCall& call, Grid grid, Stream stream) {
  using Shape = PrefillShape<kHeadDim, kRows>;
  static_assert(Shape::kBytes <= kMostSharedBytes, "sm_86");
  return launch(attentionPrefillKernel<kHeadDim, kRows>, grid, Shape::kThreads, Shape::kBytes, stream, call);
}

template <int kHeadDim>
int launchTile(const AttentionCall& call, Stream stream) {
  const Grid grid{static_cast<uint32_t>(call.numItems), static_cast<uint32_t>(call.numKvHeads)};
  if (call.tileRows == 16) return launchDecode<kHeadDim>(call, grid, stream);
  if (call.tileRows == 64) return launchPrefill<kHeadDim, 64>(call, grid, stream);
  if constexpr (kHeadDim <= 128) {  // at 256 the queries of 128 rows would not fit the shared memory of sm_86
    if (call.tileRows == 128) return launchPrefill<kHeadDim, 128>(call, grid, stream);
  }
  return kInvalidShape;
}

}  // namespace

int attention(const AttentionCall& call, Stream stream) {
  if (call.qStride % 8 || call.numHeads % call.numKvHeads) return kInvalidShape;
  if (call.numItems == 0) return 0;
  if (call.itemCount && call.tileRows != 16) return kInvalidShape;
  switch (call.headDim) {
    case 32:
      return launchTile<32>(call, stream);
    case 64:
      return launchTile<64>(call, stream);
    case 80:
      return launchTile<80>(call, stream);
    case 96:
      return launchTile<96>(call, stream);
    case 128:
      return launchTile<128>(call, stream);
    case 256:
      return launchTile<256>(call, stream);
    default:
      return kInvalidShape;
  }
}

}  // namespace octavo::cuda
