// One block of host memory that a step's arrays are packed into, so that a single copy brings them all to the
// device, where they are put in place (ops.h, stage).
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "backend.h"

namespace octavo {

class StageBlock {
 public:
  // `capacity` bytes on either side. Throws ERR_OCTAVO_MEMORY.
  StageBlock(const Device& device, size_t capacity, const char* purpose);
  ~StageBlock();
  StageBlock(const StageBlock&) = delete;
  StageBlock& operator=(const StageBlock&) = delete;

  size_t bytes() const { return capacity_; }

  void clear();
  // Elements [first, first + count) of `source` are to become those of `target` on the device.
  template <typename T>
  void add(T* target, const T* source, int64_t first, int64_t count) {
    addRows(target + first, source + first, count, 0, 1);
  }
  // `rows` rows of `count` elements, `pitch` elements apart on both sides.
  template <typename T>
  void addRows(T* target, const T* source, int64_t count, int64_t pitch, int32_t rows) {
    static_assert(sizeof(T) % 4 == 0, "pieces are whole words");
    if (count <= 0 || rows <= 0) return;
    const size_t rowBytes = static_cast<size_t>(count) * sizeof(T);
    char* to = reserve(target, rowBytes, static_cast<size_t>(pitch) * sizeof(T), rows);
    for (int32_t r = 0; r < rows; r++)
      std::memcpy(to + static_cast<size_t>(r) * rowBytes, source + r * pitch, rowBytes);
  }
  // Sends what was added, in order with the ops. Throws ERR_OCTAVO_DEVICE.
  void send(int32_t slot) const;

 private:
  // Room for a piece; fails where it would not fit the block.
  char* reserve(void* target, size_t rowBytes, size_t pitch, int32_t rows);

  const Device& device_;
  const size_t capacity_;
  void* host_ = nullptr;
  void* staging_ = nullptr;
  size_t used_ = 0;
  std::vector<StagePiece> pieces_;
};

}  // namespace octavo
