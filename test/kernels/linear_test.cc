// Linear layers: every scheme against a dequantization of our own, the cpu backend against the reference, and
// a row's result bitwise the same in any batch.
#include "../../kernels/half.h"
#include "../../kernels/int8_activations.h"
#include "harness.h"

using namespace octavo;
using test::Backend;

namespace {

// A made-up checkpoint: what is in `source` points here.
struct Checkpoint {
  LinearSource source{};
  std::vector<std::vector<unsigned char>> memory;
  std::vector<double> weights;  // [N, K], dequantized here
  std::vector<double> bias;     // [N]

  // A copy at an odd address: mapped tensors need not be aligned.
  HostTensor keep(const void* data, size_t bytes, DType dtype, int64_t rows, int64_t cols) {
    memory.emplace_back(bytes + 1);
    std::memcpy(memory.back().data() + 1, data, bytes);
    return {memory.back().data() + 1, dtype, rows, cols};
  }

  HostTensor keepFloats(std::vector<float>& values, DType dtype, int64_t rows, int64_t cols) {
    if (dtype == DType::F32) return keep(values.data(), values.size() * 4, dtype, rows, cols);
    const auto half = dtype == DType::F16 ? test::toHalf(values) : test::toBf16(values);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = dtype == DType::F16 ? halfToFloat(half[i]) : bf16ToFloat(half[i]);
    return keep(half.data(), half.size() * 2, dtype, rows, cols);
  }
};

struct Shape {
  LinearScheme scheme;
  DType dtype;  // dense weights, or scales
  int64_t k;
  std::vector<int64_t> parts;
  int32_t groupSize;
  bool zeros, bias, pairs;
  int32_t zeroOffset;
};

constexpr int kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

void packWeights(Checkpoint& c, LinearPart& part, const Shape& shape, const std::vector<int>& q) {
  const int64_t k = shape.k, n = part.n;
  std::vector<uint32_t> words;
  if (shape.scheme == LinearScheme::AwqInt4) {
    for (int64_t row = 0; row < k; ++row)
      for (int64_t col = 0; col < n / 8; ++col) {
        uint32_t word = 0;
        for (int i = 0; i < 8; ++i)
          word |= static_cast<uint32_t>(q[static_cast<size_t>((8 * col + kAwqOrder[i]) * k + row)])
                  << (4 * i);
        words.push_back(word);
      }
    part.weight = c.keep(words.data(), words.size() * 4, DType::I32, k, n / 8);
  } else if (shape.scheme == LinearScheme::GptqInt4) {
    for (int64_t row = 0; row < k / 8; ++row)
      for (int64_t col = 0; col < n; ++col) {
        uint32_t word = 0;
        for (int i = 0; i < 8; ++i)
          word |= static_cast<uint32_t>(q[static_cast<size_t>(col * k + 8 * row + i)]) << (4 * i);
        words.push_back(word);
      }
    part.weight = c.keep(words.data(), words.size() * 4, DType::I32, k / 8, n);
  } else {
    for (int64_t row = 0; row < n; ++row)
      for (int64_t col = 0; col < (k + 7) / 8; ++col) {
        uint32_t word = 0;
        for (int i = 0; i < 8; ++i) {
          const int64_t at = 8 * col + i;  // beyond K: anything
          const int code = at < k ? q[static_cast<size_t>(row * k + at)] : 13;
          word |= static_cast<uint32_t>(code) << (4 * i);
        }
        words.push_back(word);
      }
    part.weight = c.keep(words.data(), words.size() * 4, DType::I32, n, (k + 7) / 8);
  }
}

// z [groups, n] as stored (0..15).
void packZeros(Checkpoint& c, LinearPart& part, const Shape& shape, int64_t groups,
               const std::vector<int>& z) {
  const int64_t n = part.n;
  std::vector<uint32_t> words;
  if (shape.scheme == LinearScheme::CompressedInt4) {
    for (int64_t row = 0; row < (n + 7) / 8; ++row)
      for (int64_t g = 0; g < groups; ++g) {
        uint32_t word = 0;
        for (int i = 0; i < 8; ++i)
          if (8 * row + i < n)
            word |= static_cast<uint32_t>(z[static_cast<size_t>(g * n + 8 * row + i)]) << (4 * i);
        words.push_back(word);
      }
    part.zeros = c.keep(words.data(), words.size() * 4, DType::I32, (n + 7) / 8, groups);
    return;
  }
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t col = 0; col < n / 8; ++col) {
      uint32_t word = 0;
      for (int i = 0; i < 8; ++i) {
        const int order = shape.scheme == LinearScheme::AwqInt4 ? kAwqOrder[i] : i;
        word |= static_cast<uint32_t>(z[static_cast<size_t>(g * n + 8 * col + order)]) << (4 * i);
      }
      words.push_back(word);
    }
  part.zeros = c.keep(words.data(), words.size() * 4, DType::I32, groups, n / 8);
}

void makeInt4Part(Checkpoint& c, LinearPart& part, const Shape& shape, std::mt19937& random) {
  const int64_t k = shape.k, n = part.n, groups = k / shape.groupSize;
  std::vector<int> q(static_cast<size_t>(n * k)), z(static_cast<size_t>(groups * n), 8);
  for (int& code : q) code = static_cast<int>(random() % 16);
  packWeights(c, part, shape, q);
  if (shape.zeros) {
    for (int& zero : z) zero = static_cast<int>(random() % 16);
    packZeros(c, part, shape, groups, z);
    for (int& zero : z) zero += shape.zeroOffset;
  }
  auto scales = test::randomFloats(random, static_cast<size_t>(groups * n), 0.02f);  // [groups, n]
  const bool byOutput = shape.scheme == LinearScheme::CompressedInt4;
  std::vector<float> stored(scales.size());
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t col = 0; col < n; ++col)
      stored[static_cast<size_t>(byOutput ? col * groups + g : g * n + col)] =
          scales[static_cast<size_t>(g * n + col)];
  part.scales = c.keepFloats(stored, shape.dtype, byOutput ? n : groups, byOutput ? groups : n);
  for (int64_t col = 0; col < n; ++col)
    for (int64_t row = 0; row < k; ++row) {
      const int64_t g = row / shape.groupSize;
      const double scale = stored[static_cast<size_t>(byOutput ? col * groups + g : g * n + col)];
      c.weights.push_back((q[static_cast<size_t>(col * k + row)] - z[static_cast<size_t>(g * n + col)]) *
                          scale);
    }
}

void makeCheckpoint(Checkpoint& c, const Shape& shape, std::mt19937& random) {
  c.source.scheme = shape.scheme;
  c.source.k = shape.k;
  c.source.groupSize = shape.groupSize;
  c.source.zeroOffset = shape.zeroOffset;
  c.source.siluMulPairs = shape.pairs;
  c.source.numParts = static_cast<int32_t>(shape.parts.size());
  for (size_t i = 0; i < shape.parts.size(); ++i) {
    LinearPart& part = c.source.parts[i];
    part.n = shape.parts[i];
    c.source.n += part.n;
    if (shape.scheme == LinearScheme::Dense) {
      auto values = test::randomFloats(random, static_cast<size_t>(part.n * shape.k), 0.1f);
      part.weight = c.keepFloats(values, shape.dtype, part.n, shape.k);
      c.weights.insert(c.weights.end(), values.begin(), values.end());
    } else {
      makeInt4Part(c, part, shape, random);
    }
    std::vector<float> bias(static_cast<size_t>(part.n), 0.0f);
    if (shape.bias && i != 1) {
      bias = test::randomFloats(random, bias.size());
      part.bias = c.keepFloats(bias, DType::F16, 1, part.n);
    }
    c.bias.insert(c.bias.end(), bias.begin(), bias.end());
  }
}

std::vector<Shape> shapes() {
  using S = LinearScheme;
  return {
      {S::Dense, DType::F32, 64, {64}, 0, false, false, false, 0},
      {S::Dense, DType::F16, 67, {5}, 0, false, true, false, 0},
      {S::Dense, DType::BF16, 1, {1}, 0, false, false, false, 0},
      {S::Dense, DType::F16, 300, {40, 9, 50}, 0, false, true, false, 0},
      {S::Dense, DType::BF16, 515, {37, 37}, 0, false, true, true, 0},
      {S::Dense, DType::F32, 1000, {48, 48}, 0, false, false, true, 0},
      {S::AwqInt4, DType::F16, 256, {64}, 128, true, false, false, 0},
      {S::AwqInt4, DType::F16, 96, {40, 8, 8}, 32, true, true, false, 0},
      {S::AwqInt4, DType::F16, 384, {24, 24}, 64, true, false, true, 0},
      {S::AwqInt4, DType::F16, 600, {16}, 600, true, false, false, 0},
      {S::AwqInt4, DType::F16, 60, {16}, 20, true, false, false, 0},
      {S::AwqInt4, DType::F16, 172, {40}, 4, true, true, false, 0},
      {S::AwqInt4, DType::F16, 144, {16, 16}, 48, true, false, true, 0},
      {S::GptqInt4, DType::F16, 256, {72}, 128, true, false, false, 1},
      {S::GptqInt4, DType::F16, 128, {24, 24}, 32, true, true, true, 0},
      {S::GptqInt4, DType::BF16, 64, {32, 8, 8}, 16, false, false, false, 1},
      {S::GptqInt4, DType::F32, 32, {40}, 4, true, false, false, 1},
      {S::CompressedInt4, DType::F16, 256, {33}, 128, false, false, false, 0},
      {S::CompressedInt4, DType::BF16, 130, {7, 50, 3}, 65, true, true, false, 0},
      {S::CompressedInt4, DType::F32, 35, {19, 19}, 7, true, false, true, 0},
      {S::CompressedInt4, DType::F16, 768, {64}, 768, true, false, false, 0},
  };
}

// Padding between the rows of in is NaN; between those of out, a mark that must survive.
constexpr int64_t kInPad = 5, kOutPad = 3;

std::vector<float> runLinear(Backend& backend, const Linear* weight, const Checkpoint& c,
                             const std::vector<float>& x, int rows, Epilogue epilogue, float before) {
  const int64_t k = c.source.k, width = epilogue == Epilogue::SiluMul ? c.source.n / 2 : c.source.n;
  std::vector<float> in(static_cast<size_t>(rows * (k + kInPad)), test::kPoison);
  std::vector<float> out(static_cast<size_t>(rows * (width + kOutPad)),
                         epilogue == Epilogue::Add ? before : test::kPoison);
  for (int r = 0; r < rows; ++r) {
    std::memcpy(&in[static_cast<size_t>(r * (k + kInPad))], &x[static_cast<size_t>(r * k)],
                static_cast<size_t>(k) * 4);
    for (int64_t i = width; i < width + kOutPad; ++i)
      out[static_cast<size_t>(r * (width + kOutPad) + i)] = 77;
  }
  const LinearArgs args{{in.data(), k + kInPad}, {out.data(), width + kOutPad}, weight, rows, epilogue, 0};
  const int status = backend.ops->linear(backend.context, &args);
  CHECK(status == 0, "%s", backend.ops->lastError(backend.context));
  std::vector<float> result;
  for (int r = 0; r < rows; ++r) {
    const float* row = &out[static_cast<size_t>(r * (width + kOutPad))];
    result.insert(result.end(), row, row + width);
    for (int64_t i = width; i < width + kOutPad; ++i)
      CHECK(row[i] == 77, "row %d: wrote beyond the width", r);
  }
  return result;
}

std::vector<float> expected(const Checkpoint& c, const std::vector<float>& x, int rows, Epilogue epilogue,
                            float before) {
  const int64_t k = c.source.k, n = c.source.n;
  std::vector<float> result;
  for (int r = 0; r < rows; ++r) {
    std::vector<double> y(c.bias);
    for (int64_t col = 0; col < n; ++col)
      for (int64_t i = 0; i < k; ++i)
        y[static_cast<size_t>(col)] +=
            x[static_cast<size_t>(r * k + i)] * c.weights[static_cast<size_t>(col * k + i)];
    if (epilogue == Epilogue::SiluMul) {
      for (size_t i = 0; i < y.size() / 2; ++i)
        result.push_back(static_cast<float>(y[i] / (1 + std::exp(-y[i])) * y[i + y.size() / 2]));
    } else {
      for (double value : y)
        result.push_back(static_cast<float>(value + (epilogue == Epilogue::Add ? before : 0)));
    }
  }
  return result;
}

void compareAll(Backend& backend, const std::string& name, double tolerance,
                const std::vector<int>& rowCounts) {
  std::mt19937 random(7);
  int index = 0;
  for (const Shape& shape : shapes()) {
    Checkpoint c;
    makeCheckpoint(c, shape, random);
    const Linear* weight = backend.ops->loadLinear(backend.context, &c.source);
    CHECK(weight != nullptr, "%s shape %d: %s", name.c_str(), index, backend.ops->lastError(backend.context));
    if (!weight) continue;
    CHECK(backend.ops->linearBytes(&c.source) > 0, "shape %d", index);
    for (auto& block : c.memory) std::fill(block.begin(), block.end(), static_cast<unsigned char>(0xff));
    for (int rows : rowCounts) {
      const auto x = test::randomFloats(random, static_cast<size_t>(rows * shape.k));
      const std::vector<Epilogue> epilogues = shape.pairs
                                                  ? std::vector<Epilogue>{Epilogue::SiluMul}
                                                  : std::vector<Epilogue>{Epilogue::None, Epilogue::Add};
      for (Epilogue epilogue : epilogues) {
        const auto got = runLinear(backend, weight, c, x, rows, epilogue, 0.25f);
        const double error = test::relativeError(got, expected(c, x, rows, epilogue, 0.25f));
        CHECK(error < tolerance, "%s shape %d rows %d epilogue %d: error %.2e", name.c_str(), index, rows,
              static_cast<int>(epilogue), error);
      }
    }
    ++index;
  }
}

}  // namespace

TEST(linear_reference_against_independent_dequantization) {
  Backend backend(referenceOps(), test::smallOptions());
  compareAll(backend, "reference", 3e-7, {1, 3});
}

TEST(linear_cpu_against_independent_dequantization) {
  test::forEachIsa([](const std::string& isa) {
    Backend backend(cpuOps(), test::smallOptions());
    compareAll(backend, isa, 2e-5, {1, 2, 3, 4, 5, 13, 30});
  });
}

// A row alone, in batches of up to 100 and on 1, 2 and 3 threads: the same bits.
static void checkBatches(bool int8Activations) {
  test::forEachIsa([=](const std::string& isa) {
    std::mt19937 random(11);
    int index = 0;
    for (const Shape& shape : shapes()) {
      Checkpoint c;
      makeCheckpoint(c, shape, random);
      const Epilogue epilogue = shape.pairs ? Epilogue::SiluMul : Epilogue::None;
      const int rows = 100;
      const auto x = test::randomFloats(random, static_cast<size_t>(rows * shape.k));
      const auto width = static_cast<size_t>(shape.pairs ? c.source.n / 2 : c.source.n);
      std::vector<float> alone;
      for (int threads : {1, 2, 3}) {
        OpenOptions options = test::smallOptions(threads);
        options.int8Activations = int8Activations;
        options.maxRows = 40;  // fewer than some calls have: 8-bit rows are taken in turns
        Backend backend(cpuOps(), options);
        const Linear* weight = backend.ops->loadLinear(backend.context, &c.source);
        if (threads == 1) {
          for (int r = 0; r < rows; ++r) {
            const auto first = x.begin() + r * shape.k;
            const auto row = runLinear(backend, weight, c, {first, first + shape.k}, 1, epilogue, 0);
            alone.insert(alone.end(), row.begin(), row.end());
          }
        }
        for (int count : {2, 3, 4, 5, 6, 7, 12, 17, 24, 64, 65, 96, 97, 100}) {
          const auto batch = runLinear(backend, weight, c, x, count, epilogue, 0);
          CHECK(test::sameBits(batch.data(), alone.data(), width * static_cast<size_t>(count)),
                "%s shape %d: %d rows on %d threads", isa.c_str(), index, count, threads);
        }
      }
      ++index;
    }
  });
}

TEST(linear_row_is_independent_of_its_batch) {
  checkBatches(false);
}

TEST(linear_int8_row_is_independent_of_its_batch) {
  checkBatches(true);
}

// What int8_activations.h makes of the rows, computed in another way: blocks by input, in double.
static std::vector<float> roundedTo8Bits(const Shape& shape, std::vector<float> x, int rows) {
  const int64_t group = shape.groupSize, k = shape.k;
  std::vector<int64_t> block;  // that each input is in
  for (int64_t i = 0; i < k; ++i)
    block.push_back(group < 32 && 32 % group == 0 ? i / 32 : i / group * 1000 + i % group / 32);
  for (int r = 0; r < rows; ++r) {
    float* row = &x[static_cast<size_t>(r * k)];
    for (int64_t i = 0; i < k;) {
      int64_t end = i;
      double largest = 0;
      for (; end < k && block[static_cast<size_t>(end)] == block[static_cast<size_t>(i)]; ++end)
        largest = std::fmax(largest, std::fabs(row[end]));
      for (; i < end; ++i)
        row[i] = static_cast<float>(std::nearbyint(row[i] * (127 / largest)) * (largest / 127));
    }
  }
  return x;
}

TEST(linear_int8_reference_against_independent_rounding) {
  std::mt19937 random(19);
  OpenOptions options = test::smallOptions();
  options.int8Activations = 1;
  Backend backend(referenceOps(), options);
  for (const Shape& shape : shapes()) {
    if (shape.scheme == LinearScheme::Dense) continue;
    Checkpoint c;
    makeCheckpoint(c, shape, random);
    const Linear* weight = backend.ops->loadLinear(backend.context, &c.source);
    const Epilogue epilogue = shape.pairs ? Epilogue::SiluMul : Epilogue::Add;
    const auto x = test::randomFloats(random, static_cast<size_t>(3 * shape.k));
    const double error = test::relativeError(runLinear(backend, weight, c, x, 3, epilogue, 0.25f),
                                             expected(c, roundedTo8Bits(shape, x, 3), 3, epilogue, 0.25f));
    CHECK(error < 1e-5, "K %d, group %d: error %.2e", static_cast<int>(shape.k), shape.groupSize, error);
  }
}

// Dense layers take no notice of the option; INT4 ones give the reference's bits on every instruction set
// (with SiluMul, whose exponential is each backend's own, nearly).
TEST(linear_int8_is_bitwise_the_reference) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(13);
    int index = -1;
    for (const Shape& shape : shapes()) {
      ++index;
      Checkpoint c;
      makeCheckpoint(c, shape, random);
      OpenOptions options = test::smallOptions(2);
      options.int8Activations = 1;
      Backend cpu(cpuOps(), options), reference(referenceOps(), options);
      const Linear* ours = cpu.ops->loadLinear(cpu.context, &c.source);
      const Linear* theirs = reference.ops->loadLinear(reference.context, &c.source);
      for (auto& block : c.memory) std::fill(block.begin(), block.end(), static_cast<unsigned char>(0xff));
      for (int rows : {1, 2, 5, 7, 26}) {
        auto x = test::randomFloats(random, static_cast<size_t>(rows * shape.k), 3.0f);
        x[0] = 0.5f;  // halves of the last place are rounded to even
        const auto compare = [&](Epilogue epilogue) {
          const auto got = runLinear(cpu, ours, c, x, rows, epilogue, 0.25f);
          const auto want = runLinear(reference, theirs, c, x, rows, epilogue, 0.25f);
          const bool exact = shape.scheme != LinearScheme::Dense && epilogue != Epilogue::SiluMul;
          CHECK(exact ? test::sameBits(got.data(), want.data(), got.size())
                      : test::relativeError(got, want) < 2e-5,
                "%s shape %d rows %d epilogue %d: error %.2e", isa.c_str(), index, rows,
                static_cast<int>(epilogue), test::relativeError(got, want));
        };
        if (shape.pairs) {
          compare(Epilogue::SiluMul);
        } else {
          compare(Epilogue::None);
          compare(Epilogue::Add);
        }
      }
    }
  });
}

// Rows of zeros and of values too small to divide by give the bias; what is not finite gives NaN in its own
// row only.
TEST(linear_int8_of_unusual_values) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(3);
    Checkpoint c;
    makeCheckpoint(c, {LinearScheme::AwqInt4, DType::F16, 128, {40}, 64, true, true, false, 0}, random);
    OpenOptions options = test::smallOptions();
    options.int8Activations = 1;
    for (const Ops* ops : {referenceOps(), cpuOps()}) {
      Backend backend(ops, options);
      const Linear* weight = ops->loadLinear(backend.context, &c.source);
      const auto usual = test::randomFloats(random, 128);
      std::vector<float> x;
      for (float value : {0.0f, 1e-38f, test::kPoison, INFINITY, -INFINITY, 3e38f}) {
        for (int i = 0; i < 128; ++i) x.push_back(i == 77 || value == 0 ? value : 0.0f);
        x.insert(x.end(), usual.begin(), usual.end());
      }
      const auto got = runLinear(backend, weight, c, x, 12, Epilogue::None, 0);
      for (size_t col = 0; col < 40; ++col) {
        const float bias = static_cast<float>(c.bias[col]);
        CHECK(got[col] == bias && got[2 * 40 + col] == bias, "%s column %zu", isa.c_str(), col);
        for (size_t row : {4, 6, 8})
          CHECK(std::isnan(got[row * 40 + col]), "%s row %zu column %zu", isa.c_str(), row, col);
        for (size_t row : {3, 5, 7, 9, 11})
          CHECK(got[row * 40 + col] == got[40 + col], "%s row %zu column %zu", isa.c_str(), row, col);
      }
    }
  });
}

// Large enough for several items and threads, against the reference.
TEST(linear_large) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(5);
    for (LinearScheme scheme : {LinearScheme::Dense, LinearScheme::AwqInt4}) {
      Checkpoint c;
      const bool dense = scheme == LinearScheme::Dense;
      makeCheckpoint(c, {scheme, DType::F16, 1024, {264}, dense ? 0 : 128, true, false, false, 0}, random);
      Backend cpu(cpuOps(), test::smallOptions(2)), reference(referenceOps(), test::smallOptions());
      const Linear* ours = cpu.ops->loadLinear(cpu.context, &c.source);
      const Linear* theirs = reference.ops->loadLinear(reference.context, &c.source);
      const auto x = test::randomFloats(random, 7 * 1024);
      const double error = test::relativeError(runLinear(cpu, ours, c, x, 7, Epilogue::None, 0),
                                               runLinear(reference, theirs, c, x, 7, Epilogue::None, 0));
      CHECK(error < 5e-6, "%s: error %.2e", isa.c_str(), error);
    }
  });
}

TEST(linear_refuses_what_it_cannot_compute) {
  for (const Ops* ops : {referenceOps(), cpuOps()}) {
    Backend backend(ops, test::smallOptions());
    LinearSource source{};
    source.scheme = LinearScheme::Dense;
    source.k = 4;
    source.n = 4;
    CHECK(!ops->loadLinear(backend.context, &source), "no parts");
    CHECK(std::strlen(ops->lastError(backend.context)) > 0, "no reason given");
    const float weights[16] = {};
    source.numParts = 1;
    source.parts[0].weight = {weights, DType::F32, 4, 4};
    source.parts[0].n = 3;
    CHECK(!ops->loadLinear(backend.context, &source), "parts do not add up");
    source.parts[0].n = 4;
    source.scheme = LinearScheme::AwqInt4;
    source.groupSize = 3;
    CHECK(!ops->loadLinear(backend.context, &source), "no scales, wrong type, wrong group size");
  }
}
