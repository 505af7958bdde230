#include "harness.h"

#include <chrono>
#include <cstdarg>
#include <cstdlib>
#include <tuple>

namespace octavo::test {

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

void fail(const char* file, int line, const char* condition, const char* format, ...) {
  char detail[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(detail, sizeof detail, format, args);
  va_end(args);
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + condition + ": " + detail);
}

void underSchedules(const std::function<void()>& body) {
#if defined(__CUDACC__)
  body();
#else
  sim::Options& options = sim::options();
  const sim::Options before = options;
  for (const auto& [seed, lazy, resident] : {std::tuple{0u, true, 1}, {1u, true, 3}, {7u, false, 0}}) {
    options.seed = seed;
    options.lazyCopies = lazy;
    options.residentBlocks = resident;
    body();
  }
  options = before;
#endif
}

void run(int status) {
#if defined(__CUDACC__)
  if (status == 0) status = static_cast<int>(cudaDeviceSynchronize());
#endif
  if (status != 0) throw Failure("launcher returned " + std::to_string(status));
}

std::mt19937& generator() {
  static std::mt19937 theGenerator(1);
  return theGenerator;
}

float normal() {
  static std::normal_distribution<float> distribution;
  return distribution(generator());
}

std::vector<cuda::Half> randomHalves(size_t count, float scale) {
  std::vector<cuda::Half> values(count);
  for (cuda::Half& v : values) v.bits = floatToHalf(scale * normal());
  return values;
}

std::vector<cuda::Half> toHalves(const std::vector<float>& values) {
  std::vector<cuda::Half> halves(values.size());
  for (size_t i = 0; i < values.size(); ++i) halves[i].bits = floatToHalf(values[i]);
  return halves;
}

}  // namespace octavo::test

// usage: cuda_tests [name prefix]...; OCTAVO_LONG=1 runs the long ones too.
int main(int argc, char** argv) {
  using namespace octavo::test;
  const char* longRequest = std::getenv("OCTAVO_LONG");
  const bool runLong = longRequest && *longRequest == '1';
  int failed = 0, ran = 0;
  for (const Test& test : tests()) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i)
      wanted = wanted || std::strncmp(test.name, argv[i], std::strlen(argv[i])) == 0;
    if (!wanted || (test.isLong && !runLong)) continue;
    ++ran;
    const auto start = std::chrono::steady_clock::now();
    std::string error;
    generator().seed(1);
    try {
      test.run();
    } catch (const std::exception& e) {
      error = e.what();
    }
#if !defined(__CUDACC__)
    octavo::sim::options() = {};
#endif
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%-4s %-40s %6.2f s%s%s\n", error.empty() ? "ok" : "FAIL", test.name, seconds.count(),
                error.empty() ? "" : "\n     ", error.c_str());
    std::fflush(stdout);
    failed += !error.empty();
  }
  std::printf("%d tests, %d failed\n", ran, failed);
  return failed || ran == 0;
}
