// The skeleton of both linear kernels: y = x w^T over tiles of kBM rows and kBN columns.
//
//   K:  |-- segment 0 --|-- segment 1 --| ... |-- segment S-1 --|      S and its length: functions of (N, K)
//   alone
//
// A segment's products are chained in order of k by the tensor cores; the segments' sums are added in order,
// from zero. Either a block walks all segments itself, or one block per segment (kSplit) leaves its sum in
// the workspace and the block that arrives last at a tile adds them up. Tiles differ in rows and columns
// only. So a row's result is the same bits for any number of rows, any tile and either way of splitting.
//
// An operand (int4, dense) supplies kBK, kStages, stageBytes() up to kMostStageBytes, load() of a stage,
// begin() of a k16 step and fragment() of 8 columns.
#pragma once
#include <type_traits>

#include "elementwise.h"
#include "launchers.h"
#include "linear_plan.h"

namespace octavo::cuda {

constexpr int kFragmentsN = 8;  // of 8 columns, of a warp

// Warps along M and N, and 16-row fragments of each: a warp has at most 32 x 64, so that segment and running
// sums (64 + 64 registers) fit beside the operands.
template <int kBM, int kBN>
struct TileShape {
  static constexpr int kRows = kBM, kColumns = kBN;
  static constexpr int kFragmentsM = kBM >= 32 ? 2 : 1;
  static constexpr int kWarpsM = kBM / (16 * kFragmentsM);
  static constexpr int kWarpsN = kBN / (8 * kFragmentsN);
  static constexpr int kThreads = kWarpsM * kWarpsN * kWarpSize;
};

template <int kFragmentsM>
using Sums = float[kFragmentsM][kFragmentsN][4];

// Where a thread's values are: rows row, row + 8 of each 16-row fragment; columns column, column + 1 of
// each 8.
struct TilePlace {
  int row, column;
};

template <class Shape>
DEVICE TilePlace tilePlace() {
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
  return {blockY() * Shape::kRows + warp / Shape::kWarpsN * 16 * Shape::kFragmentsM + (lane >> 2),
          blockX() * Shape::kColumns + warp % Shape::kWarpsN * 64 + (lane & 3) * 2};
}

// Rows [blockY * kBM, + kBM), inputs [k0, + kBK) to shared memory, swizzled; zeros outside.
template <class Shape, int kBK, class T, class Out>
DEVICE void loadActivations(const LinearCall<T, Out>& call, unsigned char* to, int k0) {
  constexpr int kBM = Shape::kRows, kChunks = kBK / 8;
  for (int i = threadX(); i < kBM * kChunks; i += Shape::kThreads) {
    const int r = i / kChunks, chunk = i % kChunks, row = blockY() * kBM + r, k = k0 + chunk * 8;
    const bool valid = row < call.rows && k < call.inWidth;
    const T* from = valid ? call.in + row * call.inStride + k : call.in;
    copyAsync16(to + swizzled(r, chunk, kChunks), from, valid);
  }
}

template <class T>
DEVICE float biasAt(const T* bias, int column, int n) {
  return bias && column < n ? toFloat(bias[column]) : 0.0f;
}

template <class T, class Out>
DEVICE void storeOne(const LinearCall<T, Out>& call, int row, int column, float y) {
  if (column >= call.outWidth) return;
  Out* at = call.out + row * call.outStride + column;
  *at = fromFloat<Out>(call.epilogue == LinearEpilogue::Residual ? toFloat(*at) + y : y);
}

// Bias, residual, SiLU-mul; guards of the last rows and columns.
template <class Shape, class T, class Out>
DEVICE void storeTile(const LinearCall<T, Out>& call, int n, Sums<Shape::kFragmentsM>& sums) {
  const TilePlace place = tilePlace<Shape>();
#pragma unroll
  for (int m = 0; m < Shape::kFragmentsM; ++m) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = place.row + m * 16 + e / 2 * 8;
      if (row >= call.rows) continue;
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        const int column = place.column + j * 8 + e % 2;
        if (call.epilogue != LinearEpilogue::SiluMul) {
          storeOne(call, row, column, sums[m][j][e] + biasAt(call.bias, column, n));
        } else if (j % 2 == 0) {  // gate; its up is the next 8 columns
          const float gate = sums[m][j][e] + biasAt(call.bias, column, n);
          const float up = sums[m][j | 1][e] + biasAt(call.bias, column + 8, n);
          storeOne(call, row, column / 16 * 8 + column % 8, silu(gate) * up);
        }
      }
    }
  }
}

// Columns of a row of partial sums: whole tiles, so that pairs are aligned for any N.
template <class Shape>
DEVICE int partialStride() {
  return gridX() * Shape::kColumns;
}

// Leaves this block's segment in the workspace. partials [segment][row][partialStride]
template <class Shape, class T, class Out>
DEVICE void storePartials(const LinearCall<T, Out>& call, const Sums<Shape::kFragmentsM>& sums) {
  const TilePlace place = tilePlace<Shape>();
#pragma unroll
  for (int m = 0; m < Shape::kFragmentsM; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = place.row + m * 16 + h * 8;
      if (row >= call.rows) continue;
      float* to = call.workspace.partials +
                  (static_cast<int64_t>(blockZ()) * call.rows + row) * partialStride<Shape>() + place.column;
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        *reinterpret_cast<Float2*>(to + j * 8) = Float2{sums[m][j][h * 2], sums[m][j][h * 2 + 1]};
      }
    }
  }
}

// Adds all segments, in order, to sums of zero: this thread's own values.
template <class Shape, class T, class Out>
DEVICE void sumPartials(const LinearCall<T, Out>& call, int segments,
                        Sums<Shape::kFragmentsM>& sums) {
  const TilePlace place = tilePlace<Shape>();
  const int64_t segmentStride = static_cast<int64_t>(call.rows) * partialStride<Shape>();
#pragma unroll
  for (int m = 0; m < Shape::kFragmentsM; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = place.row + m * 16 + h * 8;
      if (row >= call.rows) continue;
      const float* from =
          call.workspace.partials + static_cast<int64_t>(row) * partialStride<Shape>() + place.column;
      for (int s = 0; s < segments; ++s, from += segmentStride) {
#pragma unroll
        for (int j = 0; j < kFragmentsN; ++j) {
          const Float2 part = loadThrough(reinterpret_cast<const Float2*>(from + j * 8));
          sums[m][j][h * 2] += part.x;
          sums[m][j][h * 2 + 1] += part.y;
        }
      }
    }
  }
}

// Whether this block is the last of `count` to arrive at its tile; leaves the counter at zero for the next
// call.
DEVICE bool arrivesLast(int32_t* counter, int count) {
  auto* last = reinterpret_cast<int32_t*>(sharedMemory());
  fence();        // this thread's partials before the counter
  syncThreads();  // every thread's; and shared memory is free
  if (threadX() == 0) {
    *last = atomicAdd(counter, 1) == count - 1;
    if (*last) *counter = 0;
  }
  syncThreads();
  fence();
  return *last != 0;
}

// One k16 step of a warp.
template <class Shape, class Operand>
DEVICE void multiply(const Operand& weight, typename Operand::State& state, const unsigned char* stage,
                     int kk, Sums<Shape::kFragmentsM>& sums) {
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
  uint32_t a[Shape::kFragmentsM][4];
#pragma unroll
  for (int m = 0; m < Shape::kFragmentsM; ++m) {
    const int row = (warp / Shape::kWarpsN * Shape::kFragmentsM + m) * 16 + (lane & 15);
    ldmatrix4(a[m], stage + swizzled(row, kk * 2 + (lane >> 4), Operand::kBK / 8));
  }
  const unsigned char* weightStage = stage + Shape::kRows * Operand::kBK * 2;
  weight.begin(state, weightStage, kk, warp % Shape::kWarpsN);
#pragma unroll
  for (int j = 0; j < kFragmentsN; ++j) {
    uint32_t b0, b1;
    weight.fragment(state, weightStage, kk, warp % Shape::kWarpsN, j, b0, b1);
#pragma unroll
    for (int m = 0; m < Shape::kFragmentsM; ++m)
      mma16816<typename Operand::Type>(sums[m][j], a[m], b0, b1);
  }
}

template <int kFragmentsM>
DEVICE void addAndClear(Sums<kFragmentsM>& totals, Sums<kFragmentsM>& sums) {
#pragma unroll
  for (int m = 0; m < kFragmentsM; ++m) {
#pragma unroll
    for (int j = 0; j < kFragmentsN; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        totals[m][j][e] += sums[m][j][e];
        sums[m][j][e] = 0;
      }
    }
  }
}

// Grid: column tiles, row tiles, segments if kSplit. stepsPerSegment: of kBK.
template <class Shape, bool kSplit, class Operand, class T, class Out>
KERNEL LAUNCH_BOUNDS(Shape::kThreads, 1)
    linearKernel(LinearCall<T, Out> call, Operand weight, int segments, int stepsPerSegment, int totalSteps) {
  constexpr int kBK = Operand::kBK, kStages = Operand::kStages, kActivationBytes = Shape::kRows * kBK * 2;
  unsigned char* shared = sharedMemory();
  const int stageBytes = kActivationBytes + weight.stageBytes();
  const int firstStep = kSplit ? blockZ() * stepsPerSegment : 0;
  const int lastStep = kSplit ? minOf(firstStep + stepsPerSegment, totalSteps) : totalSteps;
  const auto load = [&](int step) {
    if (step < lastStep) {
      unsigned char* stage = shared + (step - firstStep) % kStages * stageBytes;
      loadActivations<Shape, kBK>(call, stage, step * kBK);
      weight.load(stage + kActivationBytes, step * kBK, Shape::kThreads);
    }
    commitCopies();  // an empty group at the end keeps the count of pending ones right
  };
  Sums<Shape::kFragmentsM> sums = {}, totals = {};
  typename Operand::State state;
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) load(firstStep + s);
  for (int step = firstStep; step < lastStep; ++step) {
    waitCopies<kStages - 2>();
    syncThreads();  // step's copies of all threads have landed; the stage loaded next has been read by all
    load(step + kStages - 1);
    const unsigned char* stage = shared + (step - firstStep) % kStages * stageBytes;
#pragma unroll
    for (int kk = 0; kk < kBK / 16; ++kk) multiply<Shape>(weight, state, stage, kk, sums);
    if (!kSplit && ((step + 1) % stepsPerSegment == 0 || step + 1 == lastStep))
      addAndClear<Shape::kFragmentsM>(totals, sums);
  }
  if (!kSplit) return storeTile<Shape>(call, weight.n, totals);
  storePartials<Shape>(call, sums);
  if (!arrivesLast(call.workspace.counters + blockY() * gridX() + blockX(), segments)) return;
  sumPartials<Shape>(call, segments, totals);
  storeTile<Shape>(call, weight.n, totals);
}

template <class Shape, bool kSplit, class Operand, class T, class Out>
static int launchLinear(const LinearCall<T, Out>& call, const Operand& weight, int k, Stream stream) {
  const LinearSegments segments = linearSegmentsOf(weight.n, k);
  const Grid grid{static_cast<uint32_t>(ceilDiv(weight.n, Shape::kColumns)),
                  static_cast<uint32_t>(ceilDiv(call.rows, Shape::kRows)),
                  static_cast<uint32_t>(kSplit ? segments.count : 1)};
  constexpr int kActivationBytes = Shape::kRows * Operand::kBK * 2;
  static_assert(Operand::kStages * (kActivationBytes + Operand::kMostStageBytes) <= kMostSharedBytes, "sm_86");
  const size_t shared = static_cast<size_t>(Operand::kStages) * (kActivationBytes + weight.stageBytes());
  return launch(linearKernel<Shape, kSplit, Operand, T, Out>, grid, Shape::kThreads, shared, stream, call,
                weight, segments.count, segments.length / Operand::kBK, ceilDiv(k, Operand::kBK));
}

// The kernel for the tile, or where none is chosen (rows 0) for the default one. Operands depend on the tile.
template <template <int, int> class Operand, class T, class Out, class Weight>
static int launchTile(const LinearCall<T, Out>& call, const Weight& weight, int n, int k, LinearTile tile,
                      Stream stream) {
  if (call.inWidth % 8 || call.inWidth > k || call.inStride % 8) return kInvalidShape;
  if (call.rows == 0) return 0;
  if (tile.rows == 0) tile = defaultTile(call.rows, n, k);
  if (!tileFits(tile, call.rows, n, k)) return kInvalidShape;
  const auto with = [&](auto rows, auto columns) {
    constexpr int kBM = decltype(rows)::value, kBN = decltype(columns)::value;
    const Operand<kBM, kBN> operand(weight);
    return tile.split ? launchLinear<TileShape<kBM, kBN>, true>(call, operand, k, stream)
                      : launchLinear<TileShape<kBM, kBN>, false>(call, operand, k, stream);
  };
  constexpr std::integral_constant<int, 64> narrow;
  constexpr std::integral_constant<int, 128> wide;
  const auto of = [&](auto rows) { return tile.columns == 64 ? with(rows, narrow) : with(rows, wide); };
  switch (tile.rows) {
    case 16:
      return of(std::integral_constant<int, 16>());
    case 32:
      return of(std::integral_constant<int, 32>());
    case 64:
      return of(std::integral_constant<int, 64>());
    default:
      return with(std::integral_constant<int, 128>(), wide);
  }
}

}  // namespace octavo::cuda
