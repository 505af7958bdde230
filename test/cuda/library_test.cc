// Linears by the matmul library, a stand-in for cuBLASLt on the host (fake/cublaslt.cc): what is asked of it, and
// what comes of it, against the reference backend.
#include <dlfcn.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include "../../kernels/cuda/backend.h"
#include "checkpoint.h"

extern "C" const octavo::Ops* octavoBackendOps();

namespace octavo::test {
namespace {

using cuda::kLinearTiles;
using cuda::kNumLinearTiles;
using cuda::self;

constexpr double kTolerance = 1.5e-3;
constexpr int kRows = 260;  // beyond kLeastLibraryRows

// OCTAVO_CUBLASLT for as long as it lives.
struct Library {
  explicit Library(const char* file) { setenv("OCTAVO_CUBLASLT", file, 1); }
  ~Library() { unsetenv("OCTAVO_CUBLASLT"); }
};

// A counter of the stand-in.
int counter(const char* name) {
  void* file = dlopen(FAKE_CUBLASLT, RTLD_NOW);
  const int value = reinterpret_cast<int (*)()>(dlsym(file, name))();
  dlclose(file);
  return value;
}

struct Call {
  LinearSource source;
  Epilogue epilogue;
  int rows = kRows;
};

int64_t roundUp8(int64_t value) {
  return (value + 7) / 8 * 8;
}

// A context of the backend for this one linear.
class Opened {
 public:
  Opened(const Ops& ops, const LinearSource& source, bool useLibrary, const TileChoice* tile = nullptr)
      : ops_(ops) {
    const LinearShape shape{source.n, source.k, source.siluMulPairs,
                            source.scheme == LinearScheme::Dense ? 0 : source.groupSize, 2 * kRows};
    OpenOptions options{};
    options.threads = 1;
    options.maxRows = 2 * kRows;
    options.maxSeqs = options.maxSamples = 1;
    options.maxContext = 16;
    options.vocabSize = 8;
    options.linears = &shape;
    options.numLinears = 1;
    options.useMatmulLibrary = useLibrary;
    options.tiles = tile;
    options.numTiles = tile ? 1 : 0;
    planned = ops.scratchBytes ? ops.scratchBytes(&options) : 0;
    char error[256] = "";
    context_ = ops.open(&options, error, sizeof error);
    if (!context_) throw Failure(error);
  }
  ~Opened() { ops_.close(context_); }
  Opened(const Opened&) = delete;

  Context* get() { return context_; }
  void expect(int status) {
    if (status != 0) throw Failure(ops_.lastError(context_));
  }

  // Every column of the output's rows, padding included, starting from `before`.
  std::vector<float> linear(const Call& call, const std::vector<Half>& in, const std::vector<Half>& before,
                            int64_t outStride) {
    const Linear* weight = ops_.loadLinear(context_, &call.source);
    if (!weight) throw Failure(ops_.lastError(context_));
    expect(ops_.finishLoading(context_));
    const int64_t inStride = static_cast<int64_t>(in.size()) / call.rows;
    LinearArgs args{};
    args.in = {upload(in), inStride};
    args.out = {upload(before), outStride};
    args.weight = weight;
    args.rows = call.rows;
    args.epilogue = call.epilogue;
    expect(ops_.linear(context_, &args));
    return download(args.out.data, before.size());
  }

  size_t planned;

 private:
  bool isHalf() const { return ops_.activation == DType::F16; }

  void* upload(const std::vector<Half>& values) {
    std::vector<float> floats(values.size());
    for (size_t i = 0; i < values.size(); ++i) floats[i] = value(values[i]);
    const size_t bytes = values.size() * (isHalf() ? sizeof(Half) : sizeof(float));
    void* memory = ops_.alloc(context_, bytes);
    expect(ops_.upload(context_, memory, isHalf() ? static_cast<const void*>(values.data()) : floats.data(), bytes));
    return memory;
  }

  std::vector<float> download(const void* from, size_t count) {
    std::vector<float> floats(count);
    std::vector<Half> halves(count);
    void* to = isHalf() ? static_cast<void*>(halves.data()) : floats.data();
    expect(ops_.download(context_, to, from, count * (isHalf() ? sizeof(Half) : sizeof(float))));
    expect(ops_.sync(context_));
    if (isHalf())
      for (size_t i = 0; i < count; ++i) floats[i] = value(halves[i]);
    return floats;
  }

  const Ops& ops_;
  Context* context_;
};

// Rows of activations with zeros up to the stride, as ops.h has them.
std::vector<Half> activations(int rows, int64_t k, int64_t stride) {
  std::vector<Half> in(static_cast<size_t>(rows * stride), Half{0});
  for (int r = 0; r < rows; ++r) {
    const auto row = randomHalves(static_cast<size_t>(k));
    std::copy(row.begin(), row.end(), in.begin() + r * stride);
  }
  return in;
}

// The call by the library in slices of at most `sliceBytes` against the reference; gives the products it took.
int checkCall(const Call& call, size_t sliceBytes) {
  const LinearSource& source = call.source;
  const int64_t outputs = source.siluMulPairs ? source.n / 2 : source.n;
  const int64_t width = roundUp8(outputs), outStride = width + 8;
  const auto in = activations(call.rows, source.k, roundUp8(source.k) + 16);
  const auto before = randomHalves(static_cast<size_t>(call.rows * outStride));
  const int callsBefore = counter("fakeCalls");
  Opened opened(*octavoBackendOps(), source, true);
  self(opened.get())->libraryRows = 1;
  self(opened.get())->sliceBytes = sliceBytes;
  const auto got = opened.linear(call, in, before, outStride);
  Opened reference(*referenceOps(), source, false);
  const auto want = reference.linear(call, in, before, outStride);
  std::vector<double> expected;
  std::vector<float> results;
  for (int r = 0; r < call.rows; ++r) {
    for (int64_t c = 0; c < outStride; ++c) {
      const auto at = static_cast<size_t>(r * outStride + c);
      if (c < outputs) {
        results.push_back(got[at]);
        expected.push_back(want[at]);
      } else if (c >= width) {
        CHECK(got[at] == value(before[at]), "row %d column %d beyond the output was written", r,
              static_cast<int>(c));
      } else if (call.epilogue != Epilogue::Add) {
        CHECK(got[at] == 0, "row %d column %d of the padding is %g", r, static_cast<int>(c), got[at]);
      }
    }
  }
  const double error = relativeError(results, expected);
  CHECK(error < kTolerance, "n %d k %d: %g", static_cast<int>(source.n), static_cast<int>(source.k), error);
  return counter("fakeCalls") - callsBefore;
}

struct DenseCheckpoint {
  std::vector<std::vector<Half>> weights, biases;
  LinearSource source{};

  DenseCheckpoint(int k, const std::vector<int>& parts, bool bias, bool pairs) {
    source.scheme = LinearScheme::Dense;
    source.k = k;
    source.siluMulPairs = pairs;
    source.numParts = static_cast<int32_t>(parts.size());
    for (size_t p = 0; p < parts.size(); ++p) {
      weights.push_back(randomHalves(static_cast<size_t>(parts[p]) * k, 0.1f));
      biases.push_back(randomHalves(static_cast<size_t>(parts[p])));
      source.n += parts[p];
    }
    for (size_t p = 0; p < parts.size(); ++p) {
      source.parts[p].n = parts[p];
      source.parts[p].weight = {weights[p].data(), DType::F16, parts[p], k};
      if (bias) source.parts[p].bias = {biases[p].data(), DType::F16, 1, parts[p]};
    }
  }
};

constexpr size_t kWhole = cuda::kLibrarySliceBytes;

TEST(library_computes_dense_linears) {
  const Library library(FAKE_CUBLASLT);
  const int objects = counter("fakeObjects");
  const DenseCheckpoint qkv(100, {64, 24, 24}, true, false), down(72, {136}, false, false),
      gateUp(96, {44, 44}, true, true);
  CHECK(checkCall({qkv.source, Epilogue::None}, kWhole) == 1, "%s", "one product");
  CHECK(checkCall({qkv.source, Epilogue::Add}, 64 * 104 * sizeof(Half)) == 2, "%s", "two slices");
  CHECK(checkCall({down.source, Epilogue::Add}, kWhole) == 1, "%s", "one product");
  CHECK(checkCall({gateUp.source, Epilogue::SiluMul}, 64 * 96 * sizeof(Half)) == 2, "%s", "two slices");
  CHECK(counter("fakeObjects") == objects, "%d objects of the library are left",
        counter("fakeObjects") - objects);
}

TEST(library_computes_int4_linears_by_slices) {
  const Library library(FAKE_CUBLASLT);
  const Checkpoint qkv(LinearScheme::AwqInt4, 192, {64, 40, 32}, 64, true, true, false);
  const Checkpoint down(LinearScheme::GptqInt4, 256, {72}, 128, false, false, false);
  const Checkpoint gateUp(LinearScheme::CompressedInt4, 128, {88, 88}, 32, true, true, true);
  CHECK(checkCall({qkv.source, Epilogue::None}, 128 * 256 * sizeof(Half)) == 2, "%s", "two slices");
  CHECK(checkCall({down.source, Epilogue::Add}, kWhole) == 1, "%s", "one slice");
  CHECK(checkCall({gateUp.source, Epilogue::SiluMul}, 64 * 128 * sizeof(Half)) == 3, "%s",
        "three slices, the fourth is padding");
}

TEST(library_leaves_small_and_odd_calls_to_the_tiles) {
  const Library library(FAKE_CUBLASLT);
  const DenseCheckpoint linear(96, {72}, false, false), odd(96, {70}, false, false);
  CHECK(checkCall({linear.source, Epilogue::None, 256}, kWhole) == 0, "%s", "256 rows are tiles' work");
  CHECK(checkCall({odd.source, Epilogue::None}, kWhole) == 0, "%s", "70 columns are not in blocks of 8");
  CHECK(checkCall({linear.source, Epilogue::None, 257}, kWhole) == 1, "%s", "257 rows are the library's");
}

TEST(library_products_and_other_work_keep_their_order) {
  const Library library(FAKE_CUBLASLT);
  const Checkpoint gateUp(LinearScheme::AwqInt4, 128, {88, 88}, 32, true, true, true);
  // The slices share their memory: a product that came late, or a dequantization early, would show.
  for (int i = 0; i < 4; ++i) checkCall({gateUp.source, Epilogue::SiluMul}, 64 * 128 * sizeof(Half));
}

TEST(library_memory_is_planned) {
  const Library library(FAKE_CUBLASLT);
  const Checkpoint gateUp(LinearScheme::AwqInt4, 128, {88, 88}, 32, true, true, true);
  const Opened with(*octavoBackendOps(), gateUp.source, true), without(*octavoBackendOps(), gateUp.source, false);
  const size_t slice = 256 * 128 * sizeof(Half), pairs = 2 * kRows * 256 * sizeof(Half);
  CHECK(with.planned == without.planned + slice + pairs + cuda::kMatmulWorkspace, "%zu and %zu", with.planned,
        without.planned);
}

TEST(library_failures_end_the_context) {
  const Library library(FAKE_CUBLASLT);
  const DenseCheckpoint linear(96, {72}, false, false);
  setenv("FAKE_CUBLASLT_STATUS", "13", 1);
  std::string reason;
  try {
    checkCall({linear.source, Epilogue::None}, kWhole);
  } catch (const Failure& failure) {
    reason = failure.what();
  }
  unsetenv("FAKE_CUBLASLT_STATUS");
  CHECK(reason.find("cuBLASLt failed with status 13") != std::string::npos, "%s", reason.c_str());
  checkCall({linear.source, Epilogue::None}, kWhole);
}

std::string libraryText(const char* file, int expected) {
  const Library library(file);
  char text[256] = "";
  const int status = octavoBackendOps()->matmulLibrary(text, sizeof text);
  CHECK(status == expected, "%s: %d", file, status);
  return text;
}

TEST(library_is_described_or_missed_by_name) {
  CHECK(libraryText(FAKE_CUBLASLT, 0) == "cuBLASLt 13.2.3", "%s", libraryText(FAKE_CUBLASLT, 0).c_str());
  const std::string broken = libraryText(BROKEN_CUBLASLT, 1);
  CHECK(broken == "the library has no cublasLtMatmul", "%s", broken.c_str());
  const std::string absent = libraryText("/nowhere/libcublasLt.so", 1);
  CHECK(absent.find("/nowhere/libcublasLt.so") != std::string::npos, "%s", absent.c_str());
}

std::string openError(const LinearSource& source, bool useLibrary, const TileChoice* tile) {
  try {
    const Opened opened(*octavoBackendOps(), source, useLibrary, tile);
    return "";
  } catch (const Failure& failure) {
    return failure.what();
  }
}

TEST(tiles_that_cannot_compute_their_rows_are_refused) {
  const DenseCheckpoint linear(96, {72}, false, false);
  const TileChoice split{0, 64, 1}, unknown{0, 64, 99}, library{0, 512, cuda::kLibraryTile}, nobody{1, 64, 0};
  CHECK(openError(linear.source, false, &split) ==
            "tile 16x64-split: expected one that computes 64 rows of 72 x 96",
        "%s", openError(linear.source, false, &split).c_str());
  CHECK(!openError(linear.source, false, &unknown).empty(), "%s", "tile 99");
  CHECK(!openError(linear.source, false, &library).empty(), "%s", "a library that was not asked for");
  CHECK(!openError(linear.source, false, &nobody).empty(), "%s", "linear 1");
  const Library file(FAKE_CUBLASLT);
  CHECK(openError(linear.source, true, &library).empty(), "%s", openError(linear.source, true, &library).c_str());
}

void checkTimed(const LinearSource& source, int rows, int tile) {
  const Ops& ops = *octavoBackendOps();
  Opened opened(ops, source, tile == cuda::kLibraryTile);
  CHECK(ops.isTileCandidate(opened.get(), 0, rows, tile), "%s at %d rows", ops.tileName(tile), rows);
  double microseconds = 0;
  opened.expect(ops.timeLinear(opened.get(), 0, rows, tile, &microseconds));
  CHECK(microseconds > 0, "%s at %d rows: %g us", ops.tileName(tile), rows, microseconds);
}

TEST(every_candidate_can_be_timed) {
  const DenseCheckpoint dense(512, {64}, false, false), small(64, {72}, false, false);
  for (int tile = 0; tile < kNumLinearTiles; ++tile) checkTimed(dense.source, kLinearTiles[tile].rows, tile);
  const Checkpoint gateUp(LinearScheme::AwqInt4, 512, {40, 40}, 64, true, true, true);
  checkTimed(gateUp.source, 16, 3);
  const Library library(FAKE_CUBLASLT);
  const int calls = counter("fakeCalls");
  checkTimed(small.source, 257, cuda::kLibraryTile);
  CHECK(counter("fakeCalls") > calls, "%s", "the library computed nothing");
}

}  // namespace
}  // namespace octavo::test
