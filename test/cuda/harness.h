// A small test harness that compiles with g++ (kernels in the simulator) and with nvcc (kernels on a GPU).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../kernels/cuda/types.h"
#include "../../kernels/half.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "../../kernels/cuda/sim/simulator.h"
#endif

namespace octavo::test {

struct Test {
  const char* name;
  void (*run)();
  bool isLong;  // runs only with OCTAVO_LONG=1
};

std::vector<Test>& tests();

struct Register {
  Register(const char* name, void (*run)(), bool isLong) { tests().push_back({name, run, isLong}); }
};

#define TEST(name)                                                                  \
  static void test_##name();                                                        \
  static const ::octavo::test::Register register_##name(#name, test_##name, false); \
  static void test_##name()
#define LONG_TEST(name)                                                            \
  static void test_##name();                                                       \
  static const ::octavo::test::Register register_##name(#name, test_##name, true); \
  static void test_##name()

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws Failure with the file and line unless the condition holds; the rest is a printf format.
#define CHECK(condition, ...) \
  if (!(condition)) ::octavo::test::fail(__FILE__, __LINE__, #condition, __VA_ARGS__)

[[noreturn]] void fail(const char* file, int line, const char* condition, const char* format, ...);

// Device memory of exactly `size` values. In the simulator it lies between guards that are checked when it is
// destroyed; fill bytes are 0xFF, NaN in every float type.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t size) : Buffer(std::vector<T>(), size) {}
  explicit Buffer(const std::vector<T>& values) : Buffer(values, values.size()) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

#if defined(__CUDACC__)
  ~Buffer() {
    cudaFree(device_);
  }
  T* data() {
    return device_;
  }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    if (size_ && cudaMemcpy(values.data(), device_, size_ * sizeof(T), cudaMemcpyDeviceToHost) != cudaSuccess)
      throw Failure(std::string("device: ") + cudaGetErrorString(cudaGetLastError()));
    return values;
  }
#else
  ~Buffer() noexcept(false) {
    if (std::uncaught_exceptions() == 0 && !intact()) throw Failure("write outside a global buffer");
  }
  T* data() {
    return reinterpret_cast<T*>(storage_.data() + kGuard);
  }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    if (size_) std::memcpy(static_cast<void*>(values.data()), storage_.data() + kGuard, size_ * sizeof(T));
    return values;
  }
#endif

 private:
  Buffer(const std::vector<T>& values, size_t size) : size_(size) {
#if defined(__CUDACC__)
    if (cudaMalloc(&device_, size * sizeof(T) + 16) != cudaSuccess) throw Failure("cudaMalloc failed");
    cudaMemset(device_, 0xFF, size * sizeof(T));
    if (!values.empty()) cudaMemcpy(device_, values.data(), size * sizeof(T), cudaMemcpyHostToDevice);
#else
    storage_.assign(size * sizeof(T) + 2 * kGuard, kGuardByte);
    std::memset(storage_.data() + kGuard, 0xFF, size * sizeof(T));
    if (!values.empty()) std::memcpy(storage_.data() + kGuard, values.data(), size * sizeof(T));
#endif
  }

  size_t size_;
#if defined(__CUDACC__)
  T* device_ = nullptr;
#else
  static constexpr size_t kGuard = 64;
  static constexpr unsigned char kGuardByte = 0xFF;  // a read outside gives NaN
  bool intact() const {
    for (size_t i = 0; i < kGuard; ++i) {
      if (storage_[i] != kGuardByte || storage_[storage_.size() - 1 - i] != kGuardByte) return false;
    }
    return true;
  }
  std::vector<unsigned char> storage_;
#endif
};

// Calls body under several orders of execution: the simulator's seeds with eager and lazy copies; once on a
// GPU.
void underSchedules(const std::function<void()>& body);

// Runs a launcher and waits; fails on a device error.
void run(int status);

std::mt19937& generator();
float normal();
std::vector<cuda::Half> randomHalves(size_t count, float scale = 1.0f);
std::vector<cuda::Half> toHalves(const std::vector<float>& values);
inline float value(cuda::Half h) {
  return halfToFloat(h.bits);
}
inline float value(cuda::Bf16 b) {
  return bf16ToFloat(b.bits);
}
inline float value(float x) {
  return x;
}

// ||got - want|| / ||want||; NaN if got has one.
template <class T>
double relativeError(const std::vector<T>& got, const std::vector<double>& want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = value(got[i]) - want[i];
    error += difference * difference;
    norm += want[i] * want[i];
  }
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

template <class T>
bool sameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace octavo::test
