// Linear layers against float64, and the promise that a row's bits don't depend on the number of rows.
#include <memory>

#include "../../kernels/cuda/launchers.h"
#include "checkpoint.h"
#include "harness.h"

namespace octavo::test {
namespace {

using namespace octavo::cuda;

constexpr double kTolerance = 1e-3;

struct PackedOnDevice {
  Int4Shape shape;
  std::unique_ptr<Buffer<Words4>> codes;
  std::unique_ptr<Buffer<Half>> scales, bias;
  std::unique_ptr<Buffer<uint8_t>> zeros;
  Int4Weight weight;

  explicit PackedOnDevice(const Checkpoint& checkpoint) : shape(int4Shape(checkpoint.source)) {
    std::vector<Words4> c(shape.codes());
    std::vector<Half> s(shape.scales()), b(shape.n);
    std::vector<uint8_t> z(shape.scales());
    const int slabs = shape.n / kInt4Slab;
    packInt4(checkpoint.source, shape, slabs / 2, slabs, c.data(), s.data(), z.data(), b.data());
    packInt4(checkpoint.source, shape, 0, slabs / 2, c.data(), s.data(), z.data(), b.data());
    codes = std::make_unique<Buffer<Words4>>(c);
    scales = std::make_unique<Buffer<Half>>(s);
    zeros = std::make_unique<Buffer<uint8_t>>(z);
    bias = std::make_unique<Buffer<Half>>(b);
    weight = {codes->data(), scales->data(), zeros->data(), shape.n, shape.k, shape.groupSize};
  }
};

// Workspace of exactly the size that a call may use.
struct Workspace {
  Buffer<float> partials;
  Buffer<int32_t> counters;
  Workspace(int rows, int n, int k)
      : partials(static_cast<size_t>(linearPartials(rows, n, k))),
        counters(std::vector<int32_t>(linearCounters(n), 0)) {}
  LinearWorkspace get() { return {partials.data(), counters.data()}; }
  void checkCountersZero() {
    for (const int32_t c : counters.host()) CHECK(c == 0, "counter %d", c);
  }
};

// Runs linearInt4 on rows [0, rows) of in; out starts as `residual`.
template <class Out>
std::vector<Out> runInt4(const PackedOnDevice& packed, const std::vector<Half>& in, int rows, int k,
                         int outWidth, LinearEpilogue epilogue, const std::vector<Out>& before,
                         const LinearTile& tile = {}) {
  Buffer<Half> dIn(std::vector<Half>(in.begin(), in.begin() + static_cast<size_t>(rows) * k));
  Buffer<Out> out(before);
  Workspace workspace(rows, packed.shape.n, packed.shape.k);
  const int64_t stride = static_cast<int64_t>(before.size()) / rows;
  run(linearInt4<Out>(
      {dIn.data(), k, out.data(), stride, rows, k, outWidth, packed.bias->data(), epilogue, workspace.get()},
      packed.weight, nullptr, tile));
  workspace.checkCountersZero();
  return out.host();
}

template <class Out>
std::vector<Out> nans(size_t count) {
  std::vector<Out> values(count);
  std::memset(static_cast<void*>(values.data()), 0xFF, count * sizeof(Out));
  return values;
}

// Random activations; after the first `rows`, what follows is never read.
void checkInt4(const Checkpoint& checkpoint, int rows, LinearEpilogue epilogue) {
  const LinearSource& source = checkpoint.source;
  const PackedOnDevice packed(checkpoint);
  const int k = static_cast<int>(source.k), n = static_cast<int>(source.n);
  const bool pairs = epilogue == LinearEpilogue::SiluMul;
  const int outWidth = pairs ? n / 2 : n, stride = (outWidth + 7) / 8 * 8 + 8;
  const auto in = randomHalves(static_cast<size_t>(rows) * k);
  const auto w = checkpoint.dense();
  auto before = nans<Half>(static_cast<size_t>(rows) * stride);
  for (Half& h : before) {
    if (epilogue == LinearEpilogue::Residual) h = randomHalves(1)[0];
  }
  const auto got = runInt4<Half>(packed, in, rows, k, outWidth, epilogue, before);
  std::vector<double> want;
  std::vector<Half> result;
  const auto y = [&](int r, int column) {
    double sum = checkpoint.bias(column);
    for (int i = 0; i < k; ++i) sum += value(in[r * k + i]) * w[static_cast<size_t>(column) * k + i];
    return sum;
  };
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < stride; ++c) {
      const size_t at = static_cast<size_t>(r) * stride + c;
      if (c >= outWidth) {
        CHECK(got[at].bits == before[at].bits, "row %d column %d beyond the output was written", r, c);
        continue;
      }
      const double gate = y(r, c);
      double x = pairs ? gate / (1 + std::exp(-gate)) * y(r, c + n / 2) : gate;
      if (epilogue == LinearEpilogue::Residual) x += value(before[at]);
      want.push_back(x);
      result.push_back(got[at]);
    }
  }
  const double error = relativeError(result, want);
  CHECK(error < kTolerance, "scheme %d rows %d n %d k %d group %d: %g", static_cast<int>(source.scheme), rows,
        n, k, source.groupSize, error);
}

TEST(int4_repack_is_exact) {
  for (const LinearScheme scheme :
       {LinearScheme::AwqInt4, LinearScheme::GptqInt4, LinearScheme::CompressedInt4}) {
    for (const int group : {32, 64, 128, 384}) {
      const Checkpoint checkpoint(scheme, 384, {72, 64}, group, group != 64, false, false);
      const PackedOnDevice packed(checkpoint);
      Buffer<Half> out(static_cast<size_t>(packed.shape.n) * packed.shape.k);
      run(dequantizeInt4(packed.weight, 64, packed.shape.n - 64, out.data() + 64 * packed.shape.k, nullptr));
      run(dequantizeInt4(packed.weight, 0, 64, out.data(), nullptr));
      const auto got = out.host();
      const auto w = checkpoint.dense();
      for (int n = 0; n < packed.shape.n; ++n) {
        for (int k = 0; k < packed.shape.k; ++k) {
          const bool padding = n >= checkpoint.source.n || k >= checkpoint.source.k;
          // The product of two fp16 values rounds once, here and there.
          const uint16_t want =
              padding ? 0 : floatToHalf(static_cast<float>(w[static_cast<size_t>(n) * 384 + k]));
          const uint16_t bits = got[static_cast<size_t>(n) * packed.shape.k + k].bits;
          CHECK((bits & 0x7fff) == (want & 0x7fff) && ((want & 0x7fff) == 0 || bits == want),
                "scheme %d group %d n %d k %d: %04x, not %04x", static_cast<int>(scheme), group, n, k, bits,
                want);
        }
      }
    }
  }
}

TEST(int4_linear_every_tile_of_rows) {
  const Checkpoint checkpoint(LinearScheme::AwqInt4, 768, {136}, 128, true, true, false);
  for (const int rows : {1, 3, 17, 33, 65}) checkInt4(checkpoint, rows, LinearEpilogue::None);
}

TEST(int4_linear_layouts_and_groups) {
  underSchedules([] {
    checkInt4(Checkpoint(LinearScheme::GptqInt4, 512, {128}, 32, true, false, false), 3,
              LinearEpilogue::None);
    checkInt4(Checkpoint(LinearScheme::CompressedInt4, 320, {64, 24, 24}, 64, false, true, false), 17,
              LinearEpilogue::None);
    checkInt4(Checkpoint(LinearScheme::GptqInt4, 576, {72}, 64, false, false, false), 40,
              LinearEpilogue::Residual);
    checkInt4(Checkpoint(LinearScheme::AwqInt4, 256, {128}, 128, true, false, false), 70,
              LinearEpilogue::Residual);
  });
}

TEST(int4_linear_silu_mul) {
  for (const int rows : {2, 20, 66}) {
    checkInt4(Checkpoint(LinearScheme::AwqInt4, 512, {80, 80}, 64, true, true, true), rows,
              LinearEpilogue::SiluMul);
  }
}

TEST(int4_linear_float_logits_of_odd_width) {
  const Checkpoint checkpoint(LinearScheme::GptqInt4, 256, {136}, 128, true, false, false);
  const PackedOnDevice packed(checkpoint);
  const int rows = 5, outWidth = 133, stride = 137;
  const auto in = randomHalves(rows * 256);
  const auto got =
      runInt4<float>(packed, in, rows, 256, outWidth, LinearEpilogue::None, nans<float>(rows * stride));
  const auto w = checkpoint.dense();
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < stride; ++c) {
      double want = 0;
      for (int k = 0; k < 256 && c < outWidth; ++k) want += value(in[r * 256 + k]) * w[c * 256 + k];
      const float y = got[r * stride + c];
      CHECK(c < outWidth ? std::fabs(y - want) < 2e-3 * (1 + std::fabs(want)) : std::isnan(y), "%d %d: %g %g",
            r, c, y, want);
    }
  }
}

// The acceptance test of batch invariance: every M against M = 65, bit for bit.
void checkInt4Invariance(const std::vector<int>& counts) {
  const Checkpoint checkpoint(LinearScheme::AwqInt4, 1024, {128}, 128, true, true, false);
  const PackedOnDevice packed(checkpoint);
  const int most = 300;
  CHECK(linearSegments(packed.shape.n, packed.shape.k) == 4, "%d",
        linearSegments(packed.shape.n, packed.shape.k));
  const auto in = randomHalves(static_cast<size_t>(most) * 1024);
  const auto all = runInt4<float>(packed, in, most, 1024, 128, LinearEpilogue::None, nans<float>(most * 128));
  for (const int rows : counts) {
    const auto some =
        runInt4<float>(packed, in, rows, 1024, 128, LinearEpilogue::None, nans<float>(rows * 128));
    CHECK(std::memcmp(some.data(), all.data(), some.size() * 4) == 0, "%d rows differ from %d", rows, most);
  }
}

TEST(int4_linear_is_batch_invariant) {
  checkInt4Invariance({1, 2, 16, 17, 33, 65, 128, 129});
}

LONG_TEST(int4_linear_is_batch_invariant_at_every_m) {
  std::vector<int> counts;
  for (int m = 1; m <= 65; ++m) counts.push_back(m);
  checkInt4Invariance(counts);
}

TEST(int4_linear_has_no_bank_conflicts) {
#if !defined(__CUDACC__)
  sim::counters() = {};
  for (const int rows : {16, 128})
    checkInt4(Checkpoint(LinearScheme::AwqInt4, 256, {128}, 128, true, false, false), rows,
              LinearEpilogue::None);
  CHECK(sim::counters().ldmatrix > 0 && sim::counters().bankConflicts == 0, "%d conflicts",
        static_cast<int>(sim::counters().bankConflicts));
#endif
}

template <class T>
T narrow(float x);
template <>
Half narrow<Half>(float x) {
  return {floatToHalf(x)};
}
template <>
Bf16 narrow<Bf16>(float x) {
  return {static_cast<uint16_t>(floatToBits(x) >> 16)};
}

template <class T, class Out>
std::vector<Out> runDense(const std::vector<T>& in, const std::vector<T>& w, int rows, int n, int k,
                          const T* bias, const LinearTile& tile = {}) {
  Buffer<T> dIn(std::vector<T>(in.begin(), in.begin() + static_cast<size_t>(rows) * k)), dW(w);
  Buffer<T> dBias(bias ? std::vector<T>(bias, bias + n) : std::vector<T>());
  const int stride = (n + 7) / 8 * 8;
  Buffer<Out> out(static_cast<size_t>(rows) * stride);
  Workspace workspace(rows, n, k);
  run(linearDense<T, Out>({dIn.data(), k, out.data(), stride, rows, k, n, bias ? dBias.data() : nullptr,
                           LinearEpilogue::None, workspace.get()},
                          dW.data(), n, k, nullptr, tile));
  workspace.checkCountersZero();
  std::vector<Out> rowsOnly;
  const auto got = out.host();
  for (int r = 0; r < rows; ++r) rowsOnly.insert(rowsOnly.end(), &got[r * stride], &got[r * stride] + n);
  return rowsOnly;
}

template <class T, class Out>
void checkDense(int rows, int n, int k, bool withBias, double tolerance) {
  std::vector<T> in(static_cast<size_t>(rows) * k), w(static_cast<size_t>(n) * k), bias(n);
  for (auto* values : {&in, &w, &bias}) {
    for (T& v : *values) v = narrow<T>(normal());
  }
  const auto got = runDense<T, Out>(in, w, rows, n, k, withBias ? bias.data() : nullptr);
  std::vector<double> want;
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < n; ++c) {
      double sum = withBias ? value(bias[c]) : 0;
      for (int i = 0; i < k; ++i) sum += double{value(in[r * k + i])} * value(w[c * k + i]);
      want.push_back(sum);
    }
  }
  const double error = relativeError(got, want);
  CHECK(error < tolerance, "rows %d n %d k %d: %g", rows, n, k, error);
}

TEST(dense_linear_shapes_and_types) {
  underSchedules([] {
    checkDense<Half, Half>(3, 130, 520, true, kTolerance);
    checkDense<Bf16, float>(1, 127, 256, true, 1e-4);
  });
  checkDense<Half, float>(1, 257, 264, false, 1e-4);
  checkDense<Half, Half>(17, 64, 72, false, kTolerance);
  checkDense<Half, Half>(33, 129, 512, true, kTolerance);
  checkDense<Half, Half>(65, 136, 256, false, kTolerance);
  checkDense<Bf16, Bf16>(18, 40, 64, false, 4e-3);
  checkDense<Bf16, float>(66, 40, 1024, false, 1e-4);
}

TEST(dense_linear_is_batch_invariant) {
  const int n = 72, k = 1032, most = 130;
  const auto in = randomHalves(static_cast<size_t>(most) * k), w = randomHalves(static_cast<size_t>(n) * k);
  const auto all = runDense<Half, float>(in, w, most, n, k, nullptr);
  for (const int rows : {1, 7, 17, 40, 65, 128}) {
    const auto some = runDense<Half, float>(in, w, rows, n, k, nullptr);
    CHECK(std::memcmp(some.data(), all.data(), some.size() * 4) == 0, "%d rows differ", rows);
  }
}

// Bounds of the ranges of rows that a tile is chosen for, and what lies just beyond and within.
constexpr int kTileRows[] = {1, 16, 17, 32, 33, 64, 65, 128, 130};

// What a caller may choose among changes nothing but time: each tile, at every number of rows that it takes,
// gives the bits of the default one at 130 rows. Orders of blocks change from tile to tile.
template <class Run>
void checkEveryTile(int n, int k, const Run& runWith) {
  CHECK(linearSegments(n, k) > 1, "n %d k %d: nothing to split", n, k);
  const std::vector<float> all = runWith(130, LinearTile{});
  for (int i = 0; i < kNumLinearTiles; ++i) {
#if !defined(__CUDACC__)
    sim::options().seed = static_cast<uint32_t>(i);
    sim::options().residentBlocks = i % 3;
#endif
    for (const int rows : kTileRows) {
      if (!tileFits(kLinearTiles[i], rows, n, k)) continue;
      const std::vector<float> some = runWith(rows, kLinearTiles[i]);
      CHECK(std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0,
            "%d rows by tile %s differ from the default's", rows, linearTileName(i));
    }
  }
}

TEST(int4_linear_every_tile_gives_the_same_bits) {
  const Checkpoint checkpoint(LinearScheme::AwqInt4, 768, {136}, 64, true, true, false);
  const PackedOnDevice packed(checkpoint);
  const auto in = randomHalves(static_cast<size_t>(130) * 768);
  checkEveryTile(packed.shape.n, packed.shape.k, [&](int rows, const LinearTile& tile) {
    return runInt4<float>(packed, in, rows, 768, 136, LinearEpilogue::None, nans<float>(rows * 136), tile);
  });
}

TEST(int4_linear_every_tile_does_silu_mul) {
  const Checkpoint checkpoint(LinearScheme::GptqInt4, 512, {72, 72}, 32, true, true, true);
  const PackedOnDevice packed(checkpoint);
  const auto in = randomHalves(static_cast<size_t>(130) * 512);
  checkEveryTile(packed.shape.n, packed.shape.k, [&](int rows, const LinearTile& tile) {
    return runInt4<float>(packed, in, rows, 512, 72, LinearEpilogue::SiluMul, nans<float>(rows * 72), tile);
  });
}

TEST(dense_linear_every_tile_gives_the_same_bits) {
  const int n = 72, k = 776;
  const auto in = randomHalves(static_cast<size_t>(130) * k), w = randomHalves(static_cast<size_t>(n) * k);
  checkEveryTile(n, k, [&](int rows, const LinearTile& tile) {
    return runDense<Half, float>(in, w, rows, n, k, nullptr, tile);
  });
}

TEST(linear_tiles_refuse_what_they_do_not_fit) {
  const int n = 72, k = 776;
  const std::vector<Half> in = randomHalves(static_cast<size_t>(130) * k);
  Buffer<Half> dIn(in), w(randomHalves(static_cast<size_t>(n) * k)), out(static_cast<size_t>(130) * n);
  Workspace workspace(128, n, k);
  const LinearCall<Half, Half> call{dIn.data(), k, out.data(), n, 130, k, n, nullptr, LinearEpilogue::None,
                                    workspace.get()};
  const LinearTile split{64, 64, true};
  CHECK((linearDense<Half, Half>(call, w.data(), n, k, nullptr, split) == kInvalidShape), "%s",
        "130 rows were split");
  CHECK(!tileFits(split, 1, n, 256) && tileFits(split, 1, n, k), "%s", "one segment is no split");
  CHECK(linearTileName(-1) == nullptr && linearTileName(kNumLinearTiles) == nullptr, "%s", "no such tile");
}

TEST(linear_tiles_to_time_at_each_number_of_rows) {
  for (const int n : {128, 4096, 28672, 128256}) {
    for (const int rows : {1, 16, 32, 64, 128, 256, 2048}) {
      int candidates = 0;
      bool hasDefault = false;
      const LinearTile chosen = defaultTile(rows, n, 4096);
      for (const LinearTile& tile : kLinearTiles) {
        if (!tileIsCandidate(tile, rows, n, 4096)) continue;
        ++candidates;
        hasDefault = hasDefault || (tile.rows == chosen.rows && tile.columns == chosen.columns &&
                                    tile.split == chosen.split);
      }
      CHECK(hasDefault && candidates >= 2 && candidates <= 14, "n %d rows %d: %d candidates", n, rows,
            candidates);
    }
  }
}

TEST(linear_plan_depends_on_the_weight_alone) {
  for (const int n : {128, 4096, 28672, 128256}) {
    for (const int k : {128, 1024, 4096, 14336}) {
      const int segments = linearSegments(n, k);
      CHECK(segments >= 1 && segments <= 56, "n %d k %d: %d", n, k, segments);
    }
  }
  CHECK(linearSegments(4096, 4096) == 16 && linearSegments(128256, 4096) == 1, "%d",
        linearSegments(4096, 4096));
}

}  // namespace
}  // namespace octavo::test
