#include "harness.h"

#include <chrono>
#include <cstdarg>

#include "../../kernels/half.h"

namespace test {

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

static int failures = 0;

void fail(const char* file, int line, const std::string& message) {
  if (++failures <= 30) std::printf("  %s:%d: %s\n", file, line, message.c_str());
}

Backend::Backend(const octavo::Ops* table, octavo::OpenOptions options) : ops(table) {
  char error[256] = "";
  context = ops->open(&options, error, sizeof error);
  if (!context) {
    std::printf("open: %s\n", error);
    std::abort();
  }
}

Backend::~Backend() {
  ops->close(context);
}

octavo::OpenOptions smallOptions(int threads) {
  octavo::OpenOptions options{};
  options.threads = threads;
  options.maxRows = 1024;
  options.maxSeqs = 16;
  options.maxSamples = 16;
  options.maxContext = 2048;
  options.vocabSize = 512;
  return options;
}

void forEachIsa(const std::function<void(const std::string&)>& body) {
  for (const char* isa : {"generic", "avx2", "avx512", "avx512vnni"}) {
    if (!octavo::cpuForceIsa(isa)) continue;
    body(isa);
  }
  octavo::cpuForceIsa(nullptr);
}

double relativeError(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0, squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = std::isnan(difference) ? INFINITY : difference;
    squares += static_cast<double>(b[i]) * b[i];
  }
  return largest / (std::sqrt(squares / static_cast<double>(b.size())) + 1e-30);
}

bool sameBits(const float* a, const float* b, size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

std::vector<float> randomFloats(std::mt19937& random, size_t count, float spread) {
  std::uniform_real_distribution<float> uniform(-spread, spread);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

std::vector<uint16_t> toHalf(const std::vector<float>& values) {
  std::vector<uint16_t> half;
  for (float value : values) half.push_back(octavo::floatToHalf(value));
  return half;
}

std::vector<uint16_t> toBf16(const std::vector<float>& values) {
  std::vector<uint16_t> half;
  for (float value : values) half.push_back(static_cast<uint16_t>(octavo::floatToBits(value) >> 16));
  return half;
}

std::string format(const char* text, ...) {
  char buffer[512];
  va_list arguments;
  va_start(arguments, text);
  std::vsnprintf(buffer, sizeof buffer, text, arguments);
  va_end(arguments);
  return buffer;
}

}  // namespace test

// Arguments: parts of the names of the tests to run; none: all.
int main(int argc, char** argv) {
  int failed = 0;
  for (const test::Case& one : test::cases()) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted = wanted || std::strstr(one.name, argv[i]);
    if (!wanted) continue;
    const int before = test::failures;
    const auto start = std::chrono::steady_clock::now();
    one.run();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const bool ok = test::failures == before;
    failed += !ok;
    std::printf("%s %s (%.2f s)\n", ok ? "ok    " : "FAILED", one.name, seconds.count());
    std::fflush(stdout);
  }
  if (failed) std::printf("%d tests failed\n", failed);
  return failed ? 1 : 0;
}
