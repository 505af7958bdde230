// The weights of a program, as TypeScript names them: twins of TensorSource, DensePlan and LinearPlan in
// src/program/program.ts. Structure is checked here; bytes are found, mapped and loaded in weights.cc.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../kernels/ops.h"

namespace octavo {

struct TensorSource {
  bool present = false;  // false: null in TypeScript
  std::string name;
  int32_t file = -1;  // index into RunnerSpec::files; -1: made-up weights
  int64_t offset = 0;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  double dummyMean = 0;
  double dummySpread = 0.02;

  int64_t rows() const { return shape.size() == 2 ? shape[0] : 1; }
  int64_t cols() const { return shape.size() == 2 ? shape[1] : shape[0]; }
  size_t bytes() const {
    return static_cast<size_t>(rows()) * static_cast<size_t>(cols()) * dtypeSize(dtype);
  }
};

struct DensePlan {
  std::string name;
  TensorSource source;
  bool keep = false;  // read in place from the mapped file
};

struct LinearPartPlan {
  int32_t n = 0;
  TensorSource weight, scales, zeros, bias;
};

struct LinearPlan {
  std::string name;
  LinearScheme scheme = LinearScheme::Dense;
  int32_t k = 0;
  int32_t n = 0;
  int32_t groupSize = 0;
  int32_t zeroOffset = 0;
  bool siluMulPairs = false;
  std::vector<LinearPartPlan> parts;
};

// dtype, shape, file index and offset of one tensor; `numFiles` < 0 where files are not known yet.
void validateTensor(const TensorSource& tensor, const std::string& where);

// Shapes of a linear against the layouts of ops.h (LinearPart).
void validateLinear(const LinearPlan& linear, const std::string& where);

// A float vector [n] or matrix [n, m].
void validateDense(const DensePlan& dense, const std::string& where);

// The source of `plan` with data of its tensors taken from `dataOf` (never called for absent ones).
template <typename DataOf>
LinearSource toLinearSource(const LinearPlan& plan, DataOf dataOf) {
  auto host = [&](const TensorSource& tensor) {
    if (!tensor.present) return HostTensor{nullptr, DType::F32, 0, 0};
    return HostTensor{dataOf(tensor), tensor.dtype, tensor.rows(), tensor.cols()};
  };
  LinearSource source{};
  source.scheme = plan.scheme;
  source.k = plan.k;
  source.n = plan.n;
  source.groupSize = plan.groupSize;
  source.zeroOffset = plan.zeroOffset;
  source.siluMulPairs = plan.siluMulPairs ? 1 : 0;
  source.numParts = static_cast<int32_t>(plan.parts.size());
  for (size_t i = 0; i < plan.parts.size(); i++) {
    const LinearPartPlan& part = plan.parts[i];
    source.parts[i] = {host(part.weight), host(part.scales), host(part.zeros), host(part.bias), part.n};
  }
  return source;
}

}  // namespace octavo
