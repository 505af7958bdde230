// One op with everything that it reads and writes on a device: made-up data, a function of the shapes alone.
#pragma once
#include <memory>
#include <vector>

#include "backend.h"
#include "bench_ops.h"

namespace octavo {

class OpCase {
 public:
  explicit OpCase(Device& device) : device_(device) {}
  virtual ~OpCase() = default;

  // Calls the op once with copy `copy` of its weights or pages. Non-zero: it failed.
  virtual int run(int32_t rows, int32_t copy) = 0;
  virtual double bytes(int32_t rows) const = 0;
  virtual double flop(int32_t rows) const = 0;
  // What the last call wrote, as floats.
  virtual std::vector<float> output(int32_t rows) = 0;

 protected:
  // Device memory of values in [-1, 1), the same for the same name.
  float* randomFloats(size_t count, const char* name);
  float* zeroFloats(size_t count, const char* name);
  int32_t* uploadInts(const std::vector<int32_t>& values, const char* name);
  float* uploadFloats(const std::vector<float>& values, const char* name);
  std::vector<float> download(const float* from, size_t count);

  Device& device_;
};

// Bytes of one copy of what the op streams through: weights, or KV pages; 0 where it streams nothing.
size_t streamedBytes(const Ops& ops, const OpBenchSpec& spec);

// `spec` has been validated; `copies` of at least 1.
std::unique_ptr<OpCase> makeOpCase(Device& device, const OpBenchSpec& spec, int32_t maxRows, int32_t copies);

// The linear layer of a spec, its tensors made up.
struct LinearPlan;
LinearPlan benchLinearPlan(const OpBenchSpec& spec);

}  // namespace octavo
