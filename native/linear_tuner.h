// What the caller measures a program's linears with before anything is loaded: which tiles there are for a
// shape, and how long one takes. What is chosen comes back in RunnerSpec::tiles.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "shapes.h"
#include "spec.h"

namespace octavo {

class LinearTuner {
 public:
  // Opens the device. Throws ERR_OCTAVO_ARGUMENT, ERR_OCTAVO_DEVICE.
  LinearTuner(const std::string& device, const Program& program, const RunnerSizes& sizes,
              bool useMatmulLibrary);

  // Names of the tiles worth measuring for calls of that many rows.
  std::vector<std::string> candidates(const std::string& shape, int32_t rows) const;
  // Microseconds of one call. The first takes device memory, until the tuner goes. Throws ERR_OCTAVO_ARGUMENT
  // for what is not a candidate, ERR_OCTAVO_DEVICE.
  double time(const std::string& shape, int32_t rows, const std::string& tile) const;

 private:
  int32_t linearOf(const std::string& shape, int32_t rows) const;
  bool isCandidate(int32_t linear, int32_t rows, int32_t tile) const;

  const Shapes shapes_;
  std::unique_ptr<Device> device_;
};

}  // namespace octavo
