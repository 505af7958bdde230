// The small ops: the cpu backend against the reference, rows with NaN between them, odd widths.
#include "../../kernels/half.h"
#include "harness.h"

using namespace octavo;
using test::Backend;

namespace {

constexpr int64_t kPad = 3;

// [rows, width] with NaN padding after each row.
struct Matrix {
  std::vector<float> data;
  int rows;
  int64_t width, stride;

  Matrix(int rowCount, int64_t columns)
      : data(static_cast<size_t>(rowCount * (columns + kPad)), test::kPoison),
        rows(rowCount),
        width(columns),
        stride(columns + kPad) {}
  Matrix(int rowCount, int64_t columns, std::mt19937& random, float spread = 2) : Matrix(rowCount, columns) {
    for (int r = 0; r < rowCount; ++r) {
      const auto row = test::randomFloats(random, static_cast<size_t>(columns), spread);
      std::copy(row.begin(), row.end(), data.begin() + r * stride);
    }
  }
  Rows view() { return {data.data(), stride}; }
  std::vector<float> values() const {
    std::vector<float> out;
    for (int r = 0; r < rows; ++r) {
      const auto row = data.begin() + r * stride;
      out.insert(out.end(), row, row + width);
      for (int64_t i = width; i < stride; ++i)
        CHECK(std::isnan(data[static_cast<size_t>(r * stride + i)]), "wrote to the padding");
    }
    return out;
  }
};

// Runs `op` on both backends, each with its own copies; it returns what to compare.
void compare(const char* what, double tolerance, const std::function<std::vector<float>(Backend&)>& op) {
  Backend reference(referenceOps(), test::smallOptions());
  const auto want = op(reference);
  test::forEachIsa([&](const std::string& isa) {
    for (int threads : {1, 3}) {
      Backend cpu(cpuOps(), test::smallOptions(threads));
      const double error = test::relativeError(op(cpu), want);
      CHECK(error <= tolerance, "%s %s: error %.2e", isa.c_str(), what, error);
    }
  });
}

Dense* loadVector(Backend& backend, const std::vector<float>& values) {
  const HostTensor tensor{values.data(), DType::F32, 1, static_cast<int64_t>(values.size())};
  return backend.ops->loadDense(backend.context, &tensor, 0);
}

}  // namespace

TEST(embed) {
  std::mt19937 random(1);
  for (int width : {1, 7, 64, 203}) {
    const auto table = test::randomFloats(random, static_cast<size_t>(10 * width));
    for (DType dtype : {DType::F32, DType::F16, DType::BF16})
      for (int keep : {0, 1}) {
        const auto half = dtype == DType::F16 ? test::toHalf(table) : test::toBf16(table);
        const void* source = dtype == DType::F32 ? static_cast<const void*>(table.data()) : half.data();
        std::vector<unsigned char> mapped(table.size() * dtypeSize(dtype) + 1);  // unaligned
        std::memcpy(mapped.data() + 1, source, mapped.size() - 1);
        compare("embed", 0, [&](Backend& backend) {
          const HostTensor tensor{mapped.data() + 1, dtype, 10, width};
          const Dense* dense = backend.ops->loadDense(backend.context, &tensor, keep);
          const int32_t ids[] = {9, 0, 3, 3};
          Matrix out(4, width);
          const EmbedArgs args{ids, dense, out.view(), 4, width, 1.5f};
          CHECK(backend.ops->embed(backend.context, &args) == 0, "status");
          return out.values();
        });
      }
  }
}

TEST(rms_norm) {
  std::mt19937 random(2);
  for (int width : {1, 5, 64, 300, 2048})
    for (bool residual : {false, true}) {
      const Matrix in(40, width, random), before(40, width, random);
      const auto weight = test::randomFloats(random, static_cast<size_t>(width));
      compare("rmsNorm", 2e-6, [&](Backend& backend) {
        Matrix x = in, r = before;
        RmsNormArgs args{x.view(), {nullptr, 0}, loadVector(backend, weight), x.view(), 40, width, 1e-5f};
        if (residual) args.residual = r.view();
        CHECK(backend.ops->rmsNorm(backend.context, &args) == 0, "status");
        auto all = x.values();
        const auto sums = r.values();
        all.insert(all.end(), sums.begin(), sums.end());
        return all;
      });
    }
}

TEST(silu_mul_add_softcap_gather) {
  std::mt19937 random(3);
  for (int width : {1, 9, 64, 515}) {
    const Matrix gates(30, 2 * width, random, 20), a(30, width, random), b(30, width, random, 60);
    compare("siluMul", 2e-6, [&](Backend& backend) {
      Matrix in = gates, out(30, width);
      const SiluMulArgs args{in.view(), out.view(), 30, width};
      CHECK(backend.ops->siluMul(backend.context, &args) == 0, "status");
      return out.values();
    });
    compare("add", 0, [&](Backend& backend) {
      Matrix x = a, y = b;
      const AddArgs args{x.view(), y.view(), y.view(), 30, width};
      CHECK(backend.ops->add(backend.context, &args) == 0, "status");
      return y.values();
    });
    compare("softcap", 2e-6, [&](Backend& backend) {
      Matrix x = b;
      const SoftcapArgs args{x.view(), 30, width, 30.0f};
      CHECK(backend.ops->softcap(backend.context, &args) == 0, "status");
      return x.values();
    });
    compare("gatherRows", 0, [&](Backend& backend) {
      Matrix in = b, out(3, width);
      const int32_t index[] = {29, 0, 7};
      const GatherRowsArgs args{in.view(), index, out.view(), 3, width};
      CHECK(backend.ops->gatherRows(backend.context, &args) == 0, "status");
      return out.values();
    });
  }
}

// The numbers of a head's keys [headDim][16] or values [16][headDim] in a block.
void readHead(const unsigned char* head, bool keys, DType kv, int headDim, std::vector<float>* out) {
  const int count = kBlockSize * headDim;
  for (int i = 0; i < count; ++i) {
    const int token = keys ? i % kBlockSize : i / headDim;
    out->push_back(kv == DType::I8 ? static_cast<float>(reinterpret_cast<const int8_t*>(head)[i]) *
                                         readFloat(head + count, DType::F32, token)
                                   : readFloat(head, kv, i));
  }
}

TEST(rope_store_kv) {
  std::mt19937 random(4);
  constexpr int kHeads = 3, kKvHeads = 2, kRows = 20, kBlocks = 4;
  for (int headDim : {8, 20, 64})
    for (int rotary : {0, headDim, headDim / 2})
      for (int interleaved : {0, 1})
        for (bool norms : {false, true})
          for (DType kv : {DType::F32, DType::F16, DType::I8}) {
            const Matrix input(kRows, (kHeads + 2 * kKvHeads) * headDim, random);
            const auto weight = test::randomFloats(random, static_cast<size_t>(headDim));
            std::vector<float> angles;
            for (int i = 0; i < 50 * rotary; ++i)
              angles.push_back(static_cast<float>(std::cos(0.37 * i)));  // any numbers will do
            std::vector<int32_t> positions, slots;
            for (int r = 0; r < kRows; ++r) {
              positions.push_back(r * 2);
              slots.push_back((r * 7) % (kBlocks * kBlockSize));
            }
            // f16: a unit in the last place; i8: one step of 127, where the two round apart.
            const double tolerance = kv == DType::F16 ? 1.5e-3 : kv == DType::I8 ? 3e-2 : 2e-6;
            compare("ropeStoreKv", tolerance, [&](Backend& backend) {
              backend.ops->setKvDType(backend.context, kv);
              Matrix qkv = input;
              std::vector<unsigned char> pages(kBlocks * 2 * kKvHeads * kvHeadBytes(kv, headDim), 0);
              RopeStoreKvArgs args{};
              args.qkv = qkv.view();
              args.rows = kRows;
              args.positions = positions.data();
              args.slotMapping = slots.data();
              args.cosSin = rotary ? angles.data() : nullptr;
              args.rotaryDim = rotary;
              args.interleaved = interleaved;
              args.numHeads = kHeads;
              args.numKvHeads = kKvHeads;
              args.headDim = headDim;
              args.qNorm = norms ? loadVector(backend, weight) : nullptr;
              args.kNorm = norms ? loadVector(backend, weight) : nullptr;
              args.normEps = 1e-6f;
              args.kv = {pages.data(), kKvHeads, headDim};
              CHECK(backend.ops->ropeStoreKv(backend.context, &args) == 0, "status");
              auto all = qkv.values();
              const size_t bytes = kvHeadBytes(kv, headDim);
              for (size_t i = 0; i * bytes < pages.size(); ++i)
                readHead(&pages[i * bytes], i / kKvHeads % 2 == 0, kv, headDim, &all);
              return all;
            });
          }
}

// Where rope puts its numbers, by hand: a quarter turn of pair 1 of a head of 4.
TEST(rope_pairs_and_slots) {
  for (const Ops* ops : {referenceOps(), cpuOps()})
    for (int interleaved : {0, 1}) {
      Backend backend(ops, test::smallOptions());
      float qkv[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
      const float cosSin[8] = {9, 9, 9, 9, 1, 0, 0, 1};  // position 1: pair 0 stays, pair 1 by 90 degrees
      const int32_t position = 1, slot = kBlockSize + 2;
      std::vector<float> pages(2 * 2 * kBlockSize * 4, 0.0f);
      RopeStoreKvArgs args{};
      args.qkv = {qkv, 12};
      args.rows = 1;
      args.positions = &position;
      args.slotMapping = &slot;
      args.cosSin = cosSin;
      args.rotaryDim = 4;
      args.interleaved = interleaved;
      args.numHeads = args.numKvHeads = 1;
      args.headDim = 4;
      args.kv = {pages.data(), 1, 4};
      CHECK(ops->ropeStoreKv(backend.context, &args) == 0, "status");
      const float halves[4] = {1, -4, 3, 2}, pairs[4] = {1, 2, -4, 3};
      for (int i = 0; i < 4; ++i) {
        CHECK(qkv[i] == (interleaved ? pairs : halves)[i], "%s q[%d] = %g", ops->name, i, qkv[i]);
        // Keys [4][16], values [16][4], of block 1.
        CHECK(pages[2 * kBlockSize * 4 + static_cast<size_t>(i) * kBlockSize + 2] == qkv[4 + i], "%s key %d",
              ops->name, i);
        CHECK(pages[(3 * kBlockSize + 2) * 4 + static_cast<size_t>(i)] == static_cast<float>(9 + i),
              "%s value %d", ops->name, i);
      }
    }
}
