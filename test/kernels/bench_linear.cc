// How fast linear layers are: bench-linear [K N threads]. Prints time, GB/s of weights and GFLOP/s.
// make -f test/kernels/Makefile OPTIMISE=-O3 build/kernel-tests/bench-linear
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../../kernels/cpu/cpu.h"
#include "../../kernels/ops.h"

using namespace octavo;

namespace {

struct Model {
  std::vector<uint32_t> weight, zeros;
  std::vector<uint16_t> scales;
  LinearSource source{};
};

// Small positive halves; any words for INT4.
Model makeModel(LinearScheme scheme, int64_t k, int64_t n) {
  Model model;
  const bool dense = scheme == LinearScheme::Dense;
  model.weight.assign(static_cast<size_t>(dense ? k * n / 2 : k * n / 8), dense ? 0x24003400u : 0x87654321u);
  model.zeros.assign(static_cast<size_t>(k * n / 128 / 8), 0x88888888u);
  model.scales.assign(static_cast<size_t>(k * n / 128), 0x2400);
  model.source.scheme = scheme;
  model.source.k = k;
  model.source.n = n;
  model.source.groupSize = dense ? 0 : 128;
  model.source.numParts = 1;
  LinearPart& part = model.source.parts[0];
  part.n = n;
  part.weight = {model.weight.data(), dense ? DType::F16 : DType::I32, 0, 0};
  if (!dense) {
    part.scales = {model.scales.data(), DType::F16, 0, 0};
    part.zeros = {model.zeros.data(), DType::I32, 0, 0};
  }
  return model;
}

void measure(const Ops* ops, Context* context, const char* name, const Linear* weight, size_t bytes,
             int64_t k, int64_t n, int rows) {
  std::vector<float> x(static_cast<size_t>(k * rows), 0.5f), y(static_cast<size_t>(n * rows));
  const LinearArgs args{{x.data(), k}, {y.data(), n}, weight, rows, Epilogue::None, 0};
  double best = 1e9;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 50; ++i) {
    const auto before = std::chrono::steady_clock::now();
    ops->linear(context, &args);
    const auto after = std::chrono::steady_clock::now();
    best = std::min(best, std::chrono::duration<double>(after - before).count());
    if (std::chrono::duration<double>(after - start).count() > 0.3) break;
  }
  std::printf("%-10s %-6s rows %4d  %9.1f us  %6.2f GB/s  %7.1f GFLOP/s\n", cpuIsa(), name, rows, best * 1e6,
              static_cast<double>(bytes) / best * 1e-9, 2e-9 * static_cast<double>(k * n * rows) / best);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t k = argc > 1 ? std::atoll(argv[1]) : 2048, n = argc > 2 ? std::atoll(argv[2]) : 8192;
  for (const char* isa : {"avx2", "avx512", "avx512vnni"}) {
    if (!cpuForceIsa(isa)) continue;
    OpenOptions options{};
    options.threads = argc > 3 ? std::atoi(argv[3]) : 0;
    options.maxRows = 512;
    options.maxSeqs = options.maxSamples = 16;
    options.maxContext = 1024;
    options.vocabSize = 512;
    for (const char* name : {"f16", "int4", "int4a8"}) {
      options.int8Activations = std::strcmp(name, "int4a8") == 0;
      char error[256] = "";
      const Ops* ops = cpuOps();
      Context* context = ops->open(&options, error, sizeof error);
      const Model model = makeModel(name[0] == 'f' ? LinearScheme::Dense : LinearScheme::AwqInt4, k, n);
      const Linear* weight = ops->loadLinear(context, &model.source);
      for (int rows : {1, 2, 4, 8, 16, 64, 256, 512})
        measure(ops, context, name, weight, ops->linearBytes(&model.source), k, n, rows);
      ops->close(context);
    }
  }
}
