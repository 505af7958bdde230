// Made-up INT4 checkpoints for the tests of linears.
#pragma once
#include <vector>

#include "../../kernels/cuda/types.h"
#include "../../kernels/int4.h"
#include "harness.h"

namespace octavo::test {

using cuda::Half;

// A random checkpoint of one of the INT4 layouts.
struct Checkpoint {
  LinearSource source = {};
  std::vector<std::vector<uint32_t>> weights, zeros;
  std::vector<std::vector<Half>> scales, biases;

  Checkpoint(LinearScheme scheme, int k, std::vector<int> parts, int group, bool asymmetric, bool bias,
             bool pairs) {
    source.scheme = scheme;
    source.k = k;
    source.groupSize = group;
    source.zeroOffset = scheme == LinearScheme::GptqInt4;
    source.siluMulPairs = pairs;
    source.numParts = static_cast<int32_t>(parts.size());
    const auto words = [](size_t count) {
      std::vector<uint32_t> values(count);
      for (auto& v : values) v = generator()();
      return values;
    };
    const size_t groups = static_cast<size_t>(k) / group;
    for (size_t p = 0; p < parts.size(); ++p) {
      const size_t n = static_cast<size_t>(parts[p]);
      source.n += static_cast<int64_t>(n);
      weights.push_back(words(n * ((k + 7) / 8) + n));
      zeros.push_back(words(groups * (n / 8 + 1)));
      scales.emplace_back(groups * n);
      for (Half& s : scales.back()) s.bits = floatToHalf(0.01f * (0.5f + std::fabs(normal())));
      biases.push_back(randomHalves(n));
    }
    for (size_t p = 0; p < parts.size(); ++p) {
      LinearPart& part = source.parts[p];
      part.n = parts[p];
      part.weight = {weights[p].data(), DType::I32, 0, 0};
      part.scales = {scales[p].data(), DType::F16, 0, 0};
      if (asymmetric) part.zeros = {zeros[p].data(), DType::I32, 0, 0};
      if (bias) part.bias = {biases[p].data(), DType::F16, 0, 0};
    }
  }
  Checkpoint(const Checkpoint&) = delete;

  // [n, k] in float64, by the layout's definition.
  std::vector<double> dense() const {
    std::vector<double> w(static_cast<size_t>(source.n * source.k));
    for (int64_t column = 0; column < source.n; ++column) {
      int64_t n = column;
      const Int4Part view(source, partOf(source, n));
      for (int64_t k = 0; k < source.k; ++k) {
        const int64_t group = k / source.groupSize;
        w[column * source.k + k] = (static_cast<double>(view.code(k, n)) - view.zero(group, n)) *
                                   static_cast<double>(view.scale(group, n));
      }
    }
    return w;
  }

  double bias(int64_t column) const {
    const LinearPart& part = partOf(source, column);
    return part.bias.data ? readFloat(part.bias.data, part.bias.dtype, column) : 0;
  }
};

}  // namespace octavo::test
