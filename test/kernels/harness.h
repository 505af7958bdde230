// A test is a function; CHECK records a failure and goes on; main prints one line per test.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../../kernels/cpu/cpu.h"
#include "../../kernels/ops.h"

namespace test {

struct Case {
  const char* name;
  void (*run)();
};

std::vector<Case>& cases();
void fail(const char* file, int line, const std::string& message);

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

// A backend's context, closed at the end.
class Backend {
 public:
  Backend(const octavo::Ops* ops, octavo::OpenOptions options);
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  ~Backend();
  const octavo::Ops* ops;
  octavo::Context* context = nullptr;
};

octavo::OpenOptions smallOptions(int threads = 2);

// Calls body(cpu backend's name) with the cpu backend set to each instruction set that this processor has.
void forEachIsa(const std::function<void(const std::string&)>& body);

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

// Largest |a - b| over root mean square of b; NaN anywhere gives infinity.
double relativeError(const std::vector<float>& a, const std::vector<float>& b);
bool sameBits(const float* a, const float* b, size_t count);

std::vector<float> randomFloats(std::mt19937& random, size_t count, float spread = 1.0f);
std::vector<uint16_t> toHalf(const std::vector<float>& values);
std::vector<uint16_t> toBf16(const std::vector<float>& values);

std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));

}  // namespace test

#define TEST(name)                                                 \
  static void test_##name();                                       \
  static const test::Register register_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition, ...)                                                                   \
  do {                                                                                          \
    if (!(condition))                                                                           \
      test::fail(__FILE__, __LINE__, std::string(#condition ": ") + test::format(__VA_ARGS__)); \
  } while (0)
