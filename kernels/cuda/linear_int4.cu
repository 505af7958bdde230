// W4A16: y = x ((q - z) s)^T.
//
// Bytes: N K / 2 codes + N K / g * 3 scales and zeros + rows (K + N) 2; FLOP: 2 rows N K. Llama-3.1-8B's
// largest, gate and up, 28672 x 4096: 62 MB, so 14 us at the floor of an H200 (4.3 TB/s) and 81 us of an
// A6000 (768 GB/s) up to about 100 rows on H200 (then FLOP bound; mma.sync reaches about 60 % of a Hopper's
// rate). Expected share of the floor: 75 % on H200, 85 % on A6000 at 1 to 16 rows. No GPU has confirmed these
// yet.
//
// Tile: 128 columns so that a split over K of 512 blocks keeps every SM loading, or 64 for twice as many; 128 inputs a step at 16 and
// 32 rows (8 KB of codes in one stage, three stages: 38 KB, two blocks on an SM of A6000), 64 at 64 and 128
// rows, where activations fill the stages. A lane's 16 bytes of codes are its fragments as they come; the
// scales of a group travel with the stage.
#include "int4_dequantize.h"
#include "linear.h"

namespace octavo::cuda {
namespace {

template <int kBM, int kBN>
struct Int4Operand {
  using Type = Half;
  static constexpr int kBK = kBM <= 32 ? 128 : 64;
  static constexpr int kStages = kBM <= 32 ? 3 : 4;
  static constexpr int kSlabs = kBN / kInt4Slab;
  static constexpr int kCodeBytes = kBK * kBN / 2;
  static constexpr int kScaleBytes = kBN * 2, kZeroBytes = kBN;  // of one group

  static constexpr int kMostStageBytes = kCodeBytes + kBK / 32 * (kScaleBytes + kZeroBytes);

  const Words4* codes;
  const Half* scales;
  const uint8_t* zeros;
  int n, groupSize, groupsPerStage;

  explicit Int4Operand(const Int4Weight& w)
      : codes(w.codes),
        scales(w.scales),
        zeros(w.zeros),
        n(w.n),
        groupSize(w.groupSize),
        groupsPerStage(w.groupSize < kBK ? kBK / w.groupSize : 1) {}

  HOST_DEVICE_MEMBER int stageBytes() const {
    return kCodeBytes + groupsPerStage * (kScaleBytes + kZeroBytes);
  }

  struct State {
    Words4 codes;
    Int4Groups groups;
  };

  // stage: codes [kBK/16][kSlabs][32] Words4, then scales [groups][kBN], then zeros [groups][kBN].
  DEVICE_MEMBER void load(unsigned char* stage, int k0, int threads) const {
    const int64_t slabs = n / kInt4Slab;
    constexpr int kWordsPerTile = kSlabs * kWarpSize;
    for (int i = threadX(); i < kCodeBytes / 16; i += threads) {
      const int64_t tile = k0 / 16 + i / kWordsPerTile;
      copyAsync16Once(stage + i * 16, codes + (tile * slabs + blockX() * kSlabs) * kWarpSize + i % kWordsPerTile,
                      true);
    }
    constexpr int kScaleCopies = kScaleBytes / 16, kZeroCopies = kZeroBytes / 16;
    for (int i = threadX(); i < groupsPerStage * (kScaleCopies + kZeroCopies); i += threads) {
      const int group = i / (kScaleCopies + kZeroCopies), part = i % (kScaleCopies + kZeroCopies);
      const int64_t column = ((k0 / groupSize + group) * slabs + blockX() * kSlabs) * kInt4Slab;
      unsigned char* to = stage + kCodeBytes;
      if (part < kScaleCopies) {
        copyAsync16Once(to + group * kScaleBytes + part * 16, scales + column + part * 8, true);
      } else {
        to += groupsPerStage * kScaleBytes + group * kZeroBytes;
        copyAsync16Once(to + (part - kScaleCopies) * 16, zeros + column + (part - kScaleCopies) * 16, true);
      }
    }
  }

  DEVICE_MEMBER void begin(State& state, const unsigned char* stage, int kk, int warpN) const {
    const int lane = laneOf(threadX());
    state.codes = reinterpret_cast<const Words4*>(stage)[(kk * kSlabs + warpN) * kWarpSize + lane];
    if (kk * 16 % groupSize && kk > 0) return;  // still the same group
    const int column = warpN * kInt4Slab + (lane >> 2) * 8, group = kk * 16 / groupSize;
    const unsigned char* at = stage + kCodeBytes;
    state.groups.scales = *reinterpret_cast<const Words4*>(at + group * kScaleBytes + column * 2);
    at += groupsPerStage * kScaleBytes + group * kZeroBytes;
    state.groups.zeros = *reinterpret_cast<const Words2*>(at + column);
  }

  DEVICE_MEMBER void fragment(State& state, const unsigned char*, int, int, int j, uint32_t& b0,
                              uint32_t& b1) const {
    dequantize(state.codes, state.groups, j, b0, b1);
  }
};

}  // namespace

template <class Out>
int linearInt4(const LinearCall<Half, Out>& call, const Int4Weight& weight, Stream stream,
               const LinearTile& tile) {
  if (weight.n % kInt4PadN || weight.k % kInt4PadK) return kInvalidShape;
  return launchTile<Int4Operand>(call, weight, weight.n, weight.k, tile, stream);
}

template int linearInt4<Half>(const LinearCall<Half, Half>&, const Int4Weight&, Stream,
                              const LinearTile&);
template int linearInt4<float>(const LinearCall<Half, float>&, const Int4Weight&, Stream,
                              const LinearTile&);

}  // namespace octavo::cuda
