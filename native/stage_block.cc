#include "stage_block.h"

#include "check.h"

namespace octavo {

StageBlock::StageBlock(const Device& device, size_t capacity, const char* purpose)
    : device_(device), capacity_(capacity), staging_(device.alloc(capacity, purpose)) {
  host_ = device.ops.allocHost(device.context, capacity);
  if (!host_) fail(code::kMemory, purpose, ": expected ", capacity, " bytes of host memory, got none");
}

StageBlock::~StageBlock() {
  device_.ops.releaseHost(device_.context, host_);
}

void StageBlock::clear() {
  used_ = 0;
  pieces_.clear();
}

char* StageBlock::reserve(void* target, size_t rowBytes, size_t pitch, int32_t rows) {
  const size_t bytes = rowBytes * static_cast<size_t>(rows);
  if (bytes > capacity_ - used_)
    fail(code::kDevice, "stage: expected at most ", capacity_, " bytes, got ", used_, " and ", bytes,
         " more");
  pieces_.push_back({target, used_, rowBytes, pitch, rows});
  char* at = static_cast<char*>(host_) + used_;
  used_ += bytes;
  return at;
}

void StageBlock::send(int32_t slot) const {
  if (pieces_.empty()) return;
  const StageArgs args{slot, host_, staging_, used_, pieces_.data(), static_cast<int32_t>(pieces_.size())};
  device_.expect(device_.ops.stage(device_.context, &args), "stage");
}

}  // namespace octavo
