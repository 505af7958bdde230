// The cosines and sines of one rope variant by position.
#pragma once
#include <cmath>
#include <vector>

#include "program.h"

namespace octavo {

// [positions][rotaryDim]: rotaryDim / 2 cosines, then as many sines (RopeStoreKvArgs::cosSin). Made in
// double, so that far positions keep their digits, and rounded once.
inline std::vector<float> ropeTable(const RopePlan& plan, int64_t positions) {
  const int64_t half = static_cast<int64_t>(plan.inverseFrequencies.size());
  std::vector<float> table(static_cast<size_t>(positions * 2 * half));
  for (int64_t position = 0; position < positions; position++) {
    float* row = table.data() + position * 2 * half;
    for (int64_t j = 0; j < half; j++) {
      const double angle = static_cast<double>(position) * plan.inverseFrequencies[j];
      row[j] = static_cast<float>(std::cos(angle) * plan.scale);
      row[half + j] = static_cast<float>(std::sin(angle) * plan.scale);
    }
  }
  return table;
}

}  // namespace octavo
