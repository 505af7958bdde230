// Memory that takes physical pages as it is used, a KV cache above all.
#pragma once
#include <cstddef>
#include <cstdint>

namespace octavo {

class GrowingMemory {
 public:
  // `bytes` of zeroed, 64-byte aligned memory. `index` counts those that fill at the same pace, as the layers of
  // a KV cache do: each enters its huge pages at other moments.
  GrowingMemory(size_t bytes, uint64_t index);
  ~GrowingMemory();
  GrowingMemory(const GrowingMemory&) = delete;
  GrowingMemory& operator=(const GrowingMemory&) = delete;

  // Null: there was no memory.
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  void* mapping_ = nullptr;
  size_t mapped_ = 0;  // bytes from mapping_ on; 0: data_ is the allocator's
};

}  // namespace octavo
