// Dense weights, fp16 or bf16: projections of unquantised models and the lm_head.
//
// Bytes: N K 2 + rows (K + N) 2; FLOP: 2 rows N K. lm_head of Llama-3.1-8B, 128256 x 4096: 1.05 GB, 244 us at
// the floor of an H200 and 1.37 ms of an A6000 up to about 150 rows. Expected share of the floor: 85 % on
// H200, 90 % on A6000 at 1 to 16 rows. No GPU has confirmed these yet.
//
// Tile: 64 or 128 columns x 64 inputs, 16 KB of weights a stage at 128; four stages (72 KB at 16 rows), three
// at 128 rows (96 KB, the most that an SM of A6000 takes). Weight rows are [n][k] as checkpoints have them: an
// untransposed matrix load gives the B fragments.
#include "linear.h"

namespace octavo::cuda {
namespace {

template <class T>
struct DenseWeight {
  const T* data;
  int n, k;
};

template <class T>
struct DenseOperandOf {
  template <int kBM, int kBN>
  struct Operand {
    using Type = T;
    static constexpr int kBK = 64;
    static constexpr int kStages = kBM < 128 ? 4 : 3;
    static constexpr int kChunks = kBK / 8;

    static constexpr int kMostStageBytes = kBN * kBK * 2;

    const T* data;
    int n, k;

    explicit Operand(const DenseWeight<T>& w) : data(w.data), n(w.n), k(w.k) {}

    HOST_DEVICE_MEMBER int stageBytes() const { return kMostStageBytes; }

    struct State {
      uint32_t r[4];  // fragments of 16 columns
    };

    // stage [128 columns][kBK], swizzled
    DEVICE_MEMBER void load(unsigned char* stage, int k0, int threads) const {
      for (int i = threadX(); i < kBN * kChunks; i += threads) {
        const int r = i / kChunks, chunk = i % kChunks, column = blockX() * kBN + r, at = k0 + chunk * 8;
        const bool valid = column < n && at < k;
        copyAsync16Once(stage + swizzled(r, chunk, kChunks),
                        valid ? data + static_cast<int64_t>(column) * k + at : data, valid);
      }
    }

    DEVICE_MEMBER void begin(State&, const unsigned char*, int, int) const {}

    DEVICE_MEMBER void fragment(State& state, const unsigned char* stage, int kk, int warpN, int j,
                                uint32_t& b0, uint32_t& b1) const {
      if (j % 2 == 0) {  // a matrix load brings two fragments of 8 columns
        const int lane = laneOf(threadX()), column = warpN * 64 + j * 8 + (lane & 7) + (lane >> 4) * 8;
        ldmatrix4(state.r, stage + swizzled(column, kk * 2 + (lane >> 3 & 1), kChunks));
      }
      b0 = state.r[j % 2 * 2];
      b1 = state.r[j % 2 * 2 + 1];
    }
  };
};

}  // namespace

template <class T, class Out>
int linearDense(const LinearCall<T, Out>& call, const T* weight, int n, int k, Stream stream,
                const LinearTile& tile) {
  if (k % 8) return kInvalidShape;
  return launchTile<DenseOperandOf<T>::template Operand>(call, DenseWeight<T>{weight, n, k}, n, k, tile,
                                                         stream);
}

template int linearDense<Half, Half>(const LinearCall<Half, Half>&, const Half*, int, int, Stream,
                                     const LinearTile&);
template int linearDense<Half, float>(const LinearCall<Half, float>&, const Half*, int, int, Stream,
                                     const LinearTile&);
template int linearDense<Bf16, Bf16>(const LinearCall<Bf16, Bf16>&, const Bf16*, int, int, Stream,
                                     const LinearTile&);
template int linearDense<Bf16, float>(const LinearCall<Bf16, float>&, const Bf16*, int, int, Stream,
                                     const LinearTile&);

}  // namespace octavo::cuda
