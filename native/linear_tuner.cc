#include "linear_tuner.h"

#include "check.h"

namespace octavo {

LinearTuner::LinearTuner(const std::string& device, const Program& program, const RunnerSizes& sizes,
                         bool useMatmulLibrary)
    : shapes_(program, sizes, 0, {false, useMatmulLibrary}) {
  const Ops& ops = findBackend(device);
  if (!ops.timeLinear) failArgument("device", "one whose linears have tiles to choose among", device);
  char error[256] = "";
  Context* context = ops.open(&shapes_.options(), error, sizeof(error));
  if (!context) fail(code::kDevice, "device ", device, " did not open: ", error);
  device_ = std::make_unique<Device>(ops, context);
}

int32_t LinearTuner::linearOf(const std::string& shape, int32_t rows) const {
  const int32_t linear = shapes_.findLinear(shape);
  check(linear >= 0, "shape", "a shape of the program's linears", "\"" + shape + "\"");
  checkRange(rows, 1, shapes_.options().linears[linear].maxRows, "rows");
  return linear;
}

bool LinearTuner::isCandidate(int32_t linear, int32_t rows, int32_t tile) const {
  return device_->ops.isTileCandidate(device_->context, linear, rows, tile) != 0;
}

std::vector<std::string> LinearTuner::candidates(const std::string& shape, int32_t rows) const {
  const int32_t linear = linearOf(shape, rows);
  std::vector<std::string> names;
  for (int32_t tile = 0; const char* name = device_->ops.tileName(tile); tile++)
    if (isCandidate(linear, rows, tile)) names.emplace_back(name);
  return names;
}

double LinearTuner::time(const std::string& shape, int32_t rows, const std::string& tile) const {
  const int32_t linear = linearOf(shape, rows), index = findTile(device_->ops, tile);
  check(index >= 0 && isCandidate(linear, rows, index), "tile", "a candidate for these rows",
        "\"" + tile + "\"");
  double microseconds = 0;
  device_->expect(device_->ops.timeLinear(device_->context, linear, rows, index, &microseconds),
                  "timing of a linear");
  return microseconds;
}

}  // namespace octavo
