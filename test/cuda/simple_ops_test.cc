// Every element-wise and row-wise op against float64, with odd shapes, strides and poisoned gaps.
#include "../../kernels/cuda/launchers.h"
#include "harness.h"

namespace octavo::test {
namespace {

using namespace octavo::cuda;

constexpr double kTolerance = 1e-3;

// [rows, stride] with NaN between width and stride.
std::vector<Half> strided(int rows, int width, int stride) {
  std::vector<Half> values(static_cast<size_t>(rows) * stride, Half{0xFFFF});
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < width; ++c) values[r * stride + c] = randomHalves(1)[0];
  }
  return values;
}

// Columns [0, width) of each row.
std::vector<Half> compact(const std::vector<Half>& values, int rows, int width, int stride) {
  std::vector<Half> out;
  for (int r = 0; r < rows; ++r) out.insert(out.end(), &values[r * stride], &values[r * stride] + width);
  return out;
}

void checkGapsUntouched(const std::vector<Half>& values, int rows, int width, int stride) {
  for (int r = 0; r < rows; ++r) {
    for (int c = width; c < stride; ++c)
      CHECK(values[r * stride + c].bits == 0xFFFF, "row %d column %d", r, c);
  }
}

TEST(embed_and_gather_are_exact) {
  for (const int width : {8, 64, 1032}) {
    const int rows = 5, vocab = 11, stride = width + 8;
    const auto table = randomHalves(static_cast<size_t>(vocab) * width);
    const std::vector<int32_t> ids = {10, 0, 3, 3, 7};
    Buffer<Half> dTable(table), out(static_cast<size_t>(rows) * stride),
        gathered(static_cast<size_t>(rows) * width);
    Buffer<int32_t> dIds(ids);
    run(embed<Half>(dIds.data(), dTable.data(), out.data(), stride, rows, width, 1.0f, nullptr));
    run(gatherRows<Half>(dTable.data(), width, dIds.data(), gathered.data(), width, rows, width, nullptr));
    const auto got = out.host(), rowsGot = gathered.host();
    checkGapsUntouched(got, rows, width, stride);
    for (int r = 0; r < rows; ++r) {
      CHECK(std::memcmp(&got[r * stride], &table[ids[r] * width], width * 2) == 0, "embed row %d", r);
      CHECK(std::memcmp(&rowsGot[r * width], &table[ids[r] * width], width * 2) == 0, "gather row %d", r);
    }
    run(embed<Half>(dIds.data(), dTable.data(), out.data(), stride, rows, width, 2.0f, nullptr));
    CHECK(value(out.host()[0]) == 2 * value(table[10 * width]), "scale");
  }
}

TEST(rms_norm_with_and_without_residual) {
  for (const int width : {8, 64, 264, 4104}) {
    for (const bool withResidual : {false, true}) {
      const int rows = 3, stride = width + 16;
      const auto in = strided(rows, width, stride), residual = strided(rows, width, stride);
      const auto weight = randomHalves(width);
      Buffer<Half> dIn(in), dResidual(residual), dWeight(weight), out(static_cast<size_t>(rows) * stride);
      const float eps = 1e-5f;
      run(rmsNorm<Half>(dIn.data(), stride, withResidual ? dResidual.data() : nullptr, stride, dWeight.data(),
                        out.data(), stride, rows, width, eps, nullptr));
      const auto sums = dResidual.host();
      std::vector<double> want;
      for (int r = 0; r < rows; ++r) {
        double squares = 0;
        std::vector<double> x(width);
        for (int c = 0; c < width; ++c) {
          x[c] = value(in[r * stride + c]);
          if (withResidual) {
            const double sum = x[c] + value(residual[r * stride + c]);
            x[c] = value(sums[r * stride + c]);
            CHECK(std::fabs(x[c] - sum) <= 1e-3 * std::fabs(sum) + 1e-6, "residual %d %d", r, c);
          }
          squares += x[c] * x[c];
        }
        for (int c = 0; c < width; ++c)
          want.push_back(x[c] / std::sqrt(squares / width + eps) * value(weight[c]));
      }
      const auto got = out.host();
      checkGapsUntouched(got, rows, width, stride);
      const double error = relativeError(compact(got, rows, width, stride), want);
      CHECK(error < kTolerance, "width %d residual %d: %g", width, withResidual, error);
    }
  }
}

TEST(add_and_silu_mul) {
  for (const int width : {8, 1000, 1032}) {
    const int rows = 4, stride = 2 * width + 8;
    const auto in = strided(rows, 2 * width, stride), b = strided(rows, width, stride);
    Buffer<Half> dIn(in), dB(b), sum(static_cast<size_t>(rows) * stride),
        product(static_cast<size_t>(rows) * stride);
    run(add<Half>(dIn.data(), stride, dB.data(), stride, sum.data(), stride, rows, width, nullptr));
    run(siluMul<Half>(dIn.data(), stride, product.data(), stride, rows, width, nullptr));
    std::vector<double> wantSum, wantProduct;
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < width; ++c) {
        const double x = value(in[r * stride + c]), y = value(in[r * stride + width + c]);
        wantSum.push_back(x + value(b[r * stride + c]));
        wantProduct.push_back(x / (1 + std::exp(-x)) * y);
      }
    }
    checkGapsUntouched(sum.host(), rows, width, stride);
    checkGapsUntouched(product.host(), rows, width, stride);
    const double sumError = relativeError(compact(sum.host(), rows, width, stride), wantSum);
    const double productError = relativeError(compact(product.host(), rows, width, stride), wantProduct);
    CHECK(sumError < kTolerance && productError < kTolerance, "width %d: %g %g", width, sumError,
          productError);
  }
}

TEST(softcap_of_odd_widths) {
  const int rows = 3, width = 1001, stride = 1003;
  std::vector<float> x(static_cast<size_t>(rows) * stride, NAN);
  for (int i = 0; i < rows * stride; ++i) {
    if (i % stride < width) x[i] = 40 * normal();
  }
  Buffer<float> d(x);
  run(softcap(d.data(), stride, rows, width, 30.0f, nullptr));
  const auto got = d.host();
  for (int i = 0; i < rows * stride; ++i) {
    if (i % stride >= width) {
      CHECK(std::isnan(got[i]), "gap %d", i);
    } else {
      CHECK(std::fabs(got[i] - 30 * std::tanh(x[i] / 30.0)) < 1e-4, "%d", i);
    }
  }
}

TEST(copy_pages_of_every_layer) {
  const int layers = 3, numPages = 7, pageBytes = 1040;
  std::vector<uint8_t> pages(static_cast<size_t>(layers) * numPages * pageBytes);
  for (auto& byte : pages) byte = static_cast<uint8_t>(generator()());
  Buffer<uint8_t> d(pages);
  Buffer<int32_t> from(std::vector<int32_t>{6, 0}), to(std::vector<int32_t>{1, 5});
  run(copyPages(d.data(), layers, numPages, pageBytes, from.data(), to.data(), 2, nullptr));
  for (int layer = 0; layer < layers; ++layer) {
    uint8_t* base = pages.data() + static_cast<size_t>(layer) * numPages * pageBytes;
    std::memcpy(base + 1 * pageBytes, base + 6 * pageBytes, pageBytes);
    std::memcpy(base + 5 * pageBytes, base, pageBytes);
  }
  CHECK(sameBits(d.host(), pages), "pages differ");
}

struct RopeCase {
  int headDim, rotaryDim, numHeads, numKvHeads;
  bool interleaved, norm, rope;
};

double ropeWant(const std::vector<double>& head, int i, const float* cosSin, const RopeCase& c) {
  if (!c.rope || i >= c.rotaryDim) return head[i];
  const int half = c.rotaryDim / 2, pair = c.interleaved ? i / 2 : i % half;
  const bool first = c.interleaved ? i % 2 == 0 : i < half;
  const int partner = c.interleaved ? i ^ 1 : (i + half) % c.rotaryDim;
  return head[i] * cosSin[pair] + (first ? -1 : 1) * head[partner] * cosSin[half + pair];
}

void checkRope(const RopeCase& c) {
  const int rows = 3, heads = c.numHeads + 2 * c.numKvHeads, stride = heads * c.headDim + 8, numPages = 4;
  const std::vector<int32_t> positions = {0, 17, 5}, slots = {3 * 16 + 15, 16, 0};
  std::vector<float> cosSin(20 * static_cast<size_t>(c.rotaryDim));
  for (auto& x : cosSin) x = normal();
  const auto qkv = strided(rows, heads * c.headDim, stride), qNorm = randomHalves(c.headDim),
             kNorm = randomHalves(c.headDim);
  Buffer<Half> dQkv(qkv), dQ(qNorm), dK(kNorm),
      pages(static_cast<size_t>(numPages) * 2 * c.numKvHeads * 16 * c.headDim);
  Buffer<int32_t> dPositions(positions), dSlots(slots);
  Buffer<float> dCosSin(cosSin);
  run(ropeStoreKv<Half>(
      {dQkv.data(), stride, rows, dPositions.data(), dSlots.data(), c.rope ? dCosSin.data() : nullptr,
       c.rotaryDim, c.interleaved, c.numHeads, c.numKvHeads, c.headDim, c.norm ? dQ.data() : nullptr,
       c.norm ? dK.data() : nullptr, 1e-6f, pages.data(), c.headDim},
      nullptr));
  const auto got = dQkv.host(), cache = pages.host();
  std::vector<double> want;
  std::vector<Half> result;
  size_t written = 0;
  for (int r = 0; r < rows; ++r) {
    for (int h = 0; h < heads; ++h) {
      const bool isQuery = h < c.numHeads, isValue = h >= c.numHeads + c.numKvHeads;
      std::vector<double> head(c.headDim);
      double squares = 0;
      for (int i = 0; i < c.headDim; ++i) {
        head[i] = value(qkv[r * stride + h * c.headDim + i]);
        squares += head[i] * head[i];
      }
      for (int i = 0; c.norm && !isValue && i < c.headDim; ++i)
        head[i] *= value(isQuery ? qNorm[i] : kNorm[i]) / std::sqrt(squares / c.headDim + 1e-6);
      for (int i = 0; i < c.headDim; ++i) {
        const int kvHead = (h - c.numHeads) % c.numKvHeads;
        const size_t at = (((slots[r] / 16 * 2 + isValue) * c.numKvHeads + kvHead) * 16 + slots[r] % 16) *
                              static_cast<size_t>(c.headDim) +
                          i;
        result.push_back(isQuery ? got[r * stride + h * c.headDim + i] : cache[at]);
        want.push_back(isValue ? head[i] : ropeWant(head, i, &cosSin[positions[r] * c.rotaryDim], c));
        written += !isQuery;
        if (!isQuery)
          CHECK(got[r * stride + h * c.headDim + i].bits == qkv[r * stride + h * c.headDim + i].bits, "k, v");
      }
    }
  }
  const double error = relativeError(result, want);
  CHECK(error < kTolerance, "head dim %d: %g", c.headDim, error);
  size_t changed = 0;
  for (const Half h : cache) changed += h.bits != 0xFFFF;
  CHECK(changed == written, "%zu of the cache written, %zu wanted", changed, written);
}

TEST(rope_store_kv) {
  for (const RopeCase& c : {RopeCase{64, 64, 4, 2, false, false, true},
                            {80, 40, 3, 1, false, true, true},
                            {128, 128, 2, 2, true, true, true},
                            {256, 128, 2, 1, true, false, true},
                            {32, 32, 8, 4, false, false, false},
                            {20, 20, 2, 1, false, true, true}}) {
    checkRope(c);
  }
}

TEST(simple_ops_in_bf16) {
  const int width = 72;
  std::vector<Bf16> a(width), b(width);
  std::vector<double> want;
  for (int i = 0; i < width; ++i) {
    a[i].bits = static_cast<uint16_t>(floatToBits(normal()) >> 16);
    b[i].bits = static_cast<uint16_t>(floatToBits(normal()) >> 16);
    want.push_back(double{value(a[i])} + value(b[i]));
  }
  Buffer<Bf16> dA(a), dB(b), out(width);
  run(add<Bf16>(dA.data(), width, dB.data(), width, out.data(), width, 1, width, nullptr));
  CHECK(relativeError(out.host(), want) < 4e-3, "add");
}

TEST(simple_ops_refuse_unaligned_shapes) {
  CHECK(add<Half>(nullptr, 8, nullptr, 8, nullptr, 8, 1, 7, nullptr) == kInvalidShape, "width 7");
  CHECK(rmsNorm<Half>(nullptr, 9, nullptr, 0, nullptr, nullptr, 8, 1, 8, 0, nullptr) == kInvalidShape,
        "stride 9");
  CHECK(copyPages(nullptr, 1, 1, 24, nullptr, nullptr, 1, nullptr) == kInvalidShape, "page of 24 bytes");
}

}  // namespace
}  // namespace octavo::test
