// Times the kernels at Llama-3.1-8B's shapes on a GPU. Prints a table, and JSON to the file named by the
// argument.
//
// Share of the floor: the larger of bytes over the bandwidth that a copy reaches here, and FLOP over the
// dense fp16 rate of the device's data sheet, over the time. Weights and caches rotate through copies of more
// than twice the L2's size, so that nothing is read from it that a model's step wouldn't find there.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "../../../kernels/cuda/device.h"
#include "../../../kernels/cuda/launchers.h"

namespace {

using namespace octavo::cuda;

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

KERNEL fillKernel(uint32_t* words, size_t count, uint32_t mask) {
  const size_t stride = static_cast<size_t>(gridX()) * blockThreads();
  for (size_t i = static_cast<size_t>(blockX()) * blockThreads() + threadX(); i < count; i += stride) {
    auto x = static_cast<uint32_t>(i) * 2654435761u;
    x ^= x >> 15;
    words[i] = x * 2246822519u & mask;
  }
}

constexpr uint32_t kAnyBits = 0xffffffffu;
constexpr uint32_t kSmallHalves = 0xb3ffb3ffu;  // fp16 below 0.25 in size, never NaN
constexpr uint32_t kNibbles = 0x0f0f0f0fu;

// Device memory of pseudo-random bits; freed with the process's benches.
template <class T>
class Memory {
 public:
  explicit Memory(size_t count, uint32_t mask = kSmallHalves) {
    const size_t words = (count * sizeof(T) + 15) / 16 * 4;
    must(cudaMalloc(&data_, words * 4), "cudaMalloc");
    must(static_cast<cudaError_t>(launch(fillKernel, Grid{1024}, 256, 0, nullptr,
                                         reinterpret_cast<uint32_t*>(data_), words, mask)),
         "fill");
  }
  explicit Memory(const std::vector<T>& values) : Memory(values.size(), 0) {
    must(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { cudaFree(data_); }
  T* get() { return data_; }

 private:
  T* data_ = nullptr;
};

struct Result {
  std::string name;
  double microseconds, bytes, flop;
};

class Bench {
 public:
  Bench() {
    must(cudaGetDeviceProperties(&properties_, 0), "cudaGetDeviceProperties");
    must(cudaEventCreate(&start_), "cudaEventCreate");
    must(cudaEventCreate(&stop_), "cudaEventCreate");
    measureCopy();
  }

  // How many copies of `bytes` to rotate through.
  int copies(double bytes) const {
    return std::clamp(static_cast<int>(2.5 * properties_.l2CacheSize / bytes) + 1, 1, 64);
  }

  // Median over 9 rounds of the time of one call(i), i counting up.
  void time(const std::string& name, double bytes, double flop, const std::function<int(int)>& call) {
    const int calls = std::clamp(static_cast<int>(2e9 / bytes), 5, 200);
    const double microseconds = median(calls, call);
    results_.push_back({name, microseconds, bytes, flop});
    std::printf("%-44s %10.2f us %8.0f GB/s %8.1f TFLOP/s %5.0f %%\n", name.c_str(), microseconds,
                bytes / microseconds / 1e3, flop / microseconds / 1e6, 100 * share(results_.back()));
    std::fflush(stdout);
  }

  bool write(const char* path) const {
    FILE* file = std::fopen(path, "w");
    if (!file) return false;
    int driver = 0;
    cudaDriverGetVersion(&driver);
    char date[32];
    const std::time_t now = std::time(nullptr);
    std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
    std::fprintf(file,
                 "{\"gpu\": \"%s\", \"sm\": %d, \"cudaDriver\": %d, \"date\": \"%s\", \"copyGBs\": %.1f, "
                 "\"denseTflops\": %.0f,\n \"kernels\": [",
                 properties_.name, properties_.major * 10 + properties_.minor, driver, date, copyRate_ / 1e9,
                 peakFlop() / 1e12);
    for (size_t i = 0; i < results_.size(); ++i) {
      const Result& r = results_[i];
      std::fprintf(file,
                   "%s\n  {\"name\": \"%s\", \"microseconds\": %.3f, \"bytes\": %.0f, \"flop\": %.0f, "
                   "\"shareOfFloor\": %.3f}",
                   i ? "," : "", r.name.c_str(), r.microseconds, r.bytes, r.flop, share(r));
    }
    std::fprintf(file, "\n ]}\n");
    return std::fclose(file) == 0;
  }

 private:
  double median(int calls, const std::function<int(int)>& call) {
    std::vector<double> rounds;
    for (int round = 0; round < 10; ++round) {
      must(cudaEventRecord(start_), "cudaEventRecord");
      for (int i = 0; i < calls; ++i) {
        if (call(round * calls + i) != 0) must(cudaErrorUnknown, "launcher");
      }
      must(cudaEventRecord(stop_), "cudaEventRecord");
      must(cudaEventSynchronize(stop_), "kernel");
      float milliseconds = 0;
      must(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
      if (round > 0) rounds.push_back(milliseconds * 1e3 / calls);  // the first warms up
    }
    std::nth_element(rounds.begin(), rounds.begin() + 4, rounds.end());
    return rounds[4];
  }

  void measureCopy() {
    const size_t bytes = size_t{1} << 30;
    Memory<uint8_t> from(bytes, kAnyBits), to(bytes, 0);
    const double microseconds = median(5, [&](int) {
      return static_cast<int>(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice));
    });
    copyRate_ = 2.0 * static_cast<double>(bytes) / microseconds * 1e6;
    std::printf("%s, copy %.0f GB/s\n", properties_.name, copyRate_ / 1e9);
  }

  // Dense fp16 with fp32 accumulation, by the data sheets.
  double peakFlop() const { return properties_.major >= 9 ? 989e12 : 155e12; }

  double share(const Result& r) const {
    return std::max(r.bytes / copyRate_, r.flop / peakFlop()) * 1e6 / r.microseconds;
  }

  cudaDeviceProp properties_;
  cudaEvent_t start_, stop_;
  double copyRate_ = 0;  // bytes/s, reads and writes
  std::vector<Result> results_;
};

constexpr int kHidden = 4096, kVocab = 128256, kHeads = 32, kKvHeads = 8, kHeadDim = 128;

struct LinearScratch {
  Memory<float> partials;
  Memory<int32_t> counters;
  LinearScratch(int rows, int n, int k)
      : partials(static_cast<size_t>(std::max<int64_t>(1, linearPartials(rows, n, k)))),
        counters(static_cast<size_t>(linearCounters(n)), 0) {}
};

void benchInt4(Bench& bench, const char* layer, int n, int k, int rows) {
  const double weightBytes = n * static_cast<double>(k) * (0.5 + 3.0 / 128);
  const int copies = bench.copies(weightBytes);
  const size_t groups = static_cast<size_t>(n) * k / 128;
  Memory<Words4> codes(static_cast<size_t>(n) * k / 32 * copies, kAnyBits);
  Memory<Half> scales(groups * copies), in(static_cast<size_t>(rows) * k), out(static_cast<size_t>(rows) * n);
  Memory<uint8_t> zeros(groups * copies, kNibbles);
  LinearScratch scratch(rows, n, k);
  const std::string name = std::string("int4 ") + layer + " " + std::to_string(n) + "x" + std::to_string(k) +
                           " M=" + std::to_string(rows);
  bench.time(name, weightBytes + 2.0 * rows * (k + n), 2.0 * rows * n * k, [&](int i) {
    const size_t copy = static_cast<size_t>(i % copies);
    const Int4Weight weight{codes.get() + copy * n * k / 32,
                            scales.get() + copy * groups,
                            zeros.get() + copy * groups,
                            n,
                            k,
                            128};
    return linearInt4<Half>({in.get(),
                             k,
                             out.get(),
                             n,
                             rows,
                             k,
                             n,
                             nullptr,
                             LinearEpilogue::None,
                             {scratch.partials.get(), scratch.counters.get()}},
                            weight, nullptr);
  });
}

void benchHead(Bench& bench, int rows) {
  Memory<Half> weight(static_cast<size_t>(kVocab) * kHidden), in(static_cast<size_t>(rows) * kHidden);
  Memory<float> out(static_cast<size_t>(rows) * kVocab);
  LinearScratch scratch(rows, kVocab, kHidden);
  bench.time("dense lm_head 128256x4096 M=" + std::to_string(rows),
             2.0 * kVocab * kHidden + rows * (2.0 * kHidden + 4.0 * kVocab), 2.0 * rows * kVocab * kHidden,
             [&](int) {
               return linearDense<Half, float>({in.get(),
                                                kHidden,
                                                out.get(),
                                                kVocab,
                                                rows,
                                                kHidden,
                                                kVocab,
                                                nullptr,
                                                LinearEpilogue::None,
                                                {scratch.partials.get(), scratch.counters.get()}},
                                               weight.get(), kVocab, kHidden, nullptr);
             });
}

// sequences of `context` positions, the last `count` of each computed.
void benchAttention(Bench& bench, int sequences, int context, int count) {
  const int blocks = (context + 15) / 16, width = kHeads * kHeadDim, tokens = sequences * count;
  const double kvBytes = sequences * static_cast<double>(context) * kKvHeads * kHeadDim * 4;
  const int copies = std::min(bench.copies(kvBytes), 16);
  const size_t pagesOf = static_cast<size_t>(sequences) * blocks * 2 * kKvHeads * 16 * kHeadDim;
  std::vector<int32_t> queryStart(sequences + 1), contextLens(sequences, context),
      tables(static_cast<size_t>(sequences) * blocks);
  for (int s = 0; s <= sequences; ++s) queryStart[s] = s * count;
  std::iota(tables.begin(), tables.end(), 0);
  const AttentionPlan plan = planAttention(
      {sequences, queryStart.data(), contextLens.data(), kHeads, kKvHeads, kHeadDim, 0, {}, 1 << 20});
  Memory<Half> q(static_cast<size_t>(tokens) * width), out(static_cast<size_t>(tokens) * width),
      pages(pagesOf * copies);
  Memory<int32_t> blockTables(tables), itemTokens(plan.itemTokens),
      counters(static_cast<size_t>(tokens) * kKvHeads, 0);
  Memory<AttentionItem> items(plan.items);
  Memory<AttentionToken> planTokens(plan.tokens);
  Memory<float> partials(static_cast<size_t>(std::max(1, plan.numPartials)) * kHeads * (kHeadDim + 2));
  const double visible = context - (count - 1) / 2.0;
  const std::string name = "attention " + std::to_string(sequences) + " x " + std::to_string(count) +
                           " tokens, context " + std::to_string(context);
  bench.time(name, kvBytes + 4.0 * tokens * width, 4.0 * tokens * visible * kHeads * kHeadDim, [&](int i) {
    for (const AttentionRun& run : plan.runs) {
      const int status = attention({q.get(),
                                    width,
                                    out.get(),
                                    width,
                                    pages.get() + static_cast<size_t>(i % copies) * pagesOf,
                                    blockTables.get(),
                                    blocks,
                                    kHeads,
                                    kKvHeads,
                                    kHeadDim,
                                    0.088f,
                                    0,
                                    0,
                                    items.get(),
                                    run.firstItem,
                                    run.numItems,
                                    run.tileRows,
                                    itemTokens.get(),
                                    planTokens.get(),
                                    partials.get(),
                                    counters.get(),
                                    nullptr},
                                   nullptr);
      if (status != 0) return status;
    }
    return 0;
  });
}

void benchRows(Bench& bench, int rows) {
  Memory<Half> in(static_cast<size_t>(rows) * kHidden * 7), out(static_cast<size_t>(rows) * kHidden * 4),
      weight(kHidden), residual(static_cast<size_t>(rows) * kHidden, 0);
  const double row = 2.0 * kHidden * rows;
  const std::string suffix = " 4096 M=" + std::to_string(rows);
  bench.time("rms norm + residual" + suffix, 4 * row, 0, [&](int) {
    return rmsNorm<Half>(in.get(), kHidden, residual.get(), kHidden, weight.get(), out.get(), kHidden, rows,
                         kHidden, 1e-5f, nullptr);
  });
  bench.time("silu mul 14336 M=" + std::to_string(rows), 3 * 3.5 * row, 0,
             [&](int) { return siluMul<Half>(in.get(), 2 * 14336, out.get(), 14336, rows, 14336, nullptr); });
}

void benchSample(Bench& bench, int rows, float topP, int topK) {
  const size_t n = static_cast<size_t>(rows);
  std::vector<float> logits(n * kVocab);
  uint32_t state = 1;
  for (float& x : logits) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(state >> 8) * 0x1p-24f * 20 - 10;
  }
  Memory<float> dLogits(logits), ones(std::vector<float>(n, 1)), zeros(std::vector<float>(n, 0));
  Memory<float> p(std::vector<float>(n, topP)), floats(n * 22, 0);
  Memory<int32_t> none(std::vector<int32_t>(n, -1)), zeroInts(n + 1, 0), k(std::vector<int32_t>(n, topK));
  Memory<int32_t> ints(n * 23, 0);
  Memory<uint8_t> workspace(sampleWorkspaceBytes(rows, kVocab), 0);
  octavo::SampleArgs args = {};
  args.logits = dLogits.get();
  args.stride = args.vocab = kVocab;
  args.rows = rows;
  args.rowSlot = args.rowPosition = args.seedLo = args.seedHi = zeroInts.get();
  args.biasStart = args.numPrompt = args.history = zeroInts.get();
  args.targetId = args.numTop = args.maskRow = none.get();
  args.temperature = args.repetition = ones.get();
  args.minP = args.presence = args.frequency = zeros.get();
  args.topP = p.get();
  args.topK = k.get();
  args.maxContext = 1;
  args.sampledIds = ints.get();
  args.rank = ints.get() + n;
  args.targetRank = ints.get() + 2 * n;
  args.topIds = ints.get() + 3 * n;
  args.logprob = floats.get();
  args.targetLogprob = floats.get() + n;
  args.topLogprobs = floats.get() + 2 * n;
  const SampleStages stages{false, true, topK > 0, topP < 1, false};
  bench.time("sample 128256 M=" + std::to_string(rows) + (topK ? " top-k top-p" : ""), 4.0 * rows * kVocab, 0,
             [&](int) {
               return sample({args, stages, workspace.get(), rows}, nullptr);
             });
}

}  // namespace

int main(int argc, char** argv) {
  Bench bench;
  for (const int rows : {1, 4, 16, 32, 64, 128, 512, 2048}) {
    benchInt4(bench, "qkv", 6144, kHidden, rows);
    benchInt4(bench, "o", kHidden, kHidden, rows);
    benchInt4(bench, "gate_up", 28672, kHidden, rows);
    benchInt4(bench, "down", kHidden, 14336, rows);
  }
  for (const int rows : {1, 16, 64}) benchHead(bench, rows);
  for (const int sequences : {1, 4, 16}) benchAttention(bench, sequences, 8192, 1);
  benchAttention(bench, 64, 1024, 1);
  benchAttention(bench, 16, 8192, 4);
  benchAttention(bench, 1, 2048, 2048);
  benchAttention(bench, 1, 8192, 512);
  for (const int rows : {1, 16, 2048}) benchRows(bench, rows);
  for (const int rows : {1, 16, 128}) {
    benchSample(bench, rows, 1, 0);
    benchSample(bench, rows, 0.9f, 50);
  }
  if (argc > 1 && !bench.write(argv[1])) {
    std::fprintf(stderr, "can't write %s\n", argv[1]);
    return 1;
  }
  return 0;
}
