// Made-up weights. Counter-based, so that threads can share one tensor and the result is the same with any
// number.
#include <algorithm>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "../kernels/half.h"
#include "weights.h"

namespace octavo {

namespace {

// SplitMix64's finalizer over a counter. [Steele, Lea, Flood 2014]
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// FNV-1a over the name, mixed with the seed.
uint64_t streamOf(const std::string& name, uint32_t seed) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (unsigned char c : name) hash = (hash ^ c) * 0x100000001b3ull;
  return mix(hash ^ mix(seed));
}

uint16_t toBf16(float value) {
  const uint32_t bits = floatToBits(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// The 65,536 values that 16 random bits choose from, already in the tensor's type.
std::vector<uint16_t> halfTable(const TensorSource& tensor) {
  std::vector<uint16_t> table(65536);
  for (size_t i = 0; i < table.size(); i++) {
    const float value =
        static_cast<float>(tensor.dummyMean + tensor.dummySpread * (double(i) / 32767.5 - 1.0));
    table[i] = tensor.dtype == DType::F16 ? floatToHalf(value) : toBf16(value);
  }
  return table;
}

// Words [first, last) of 8 bytes; `data` may be shorter than its last word.
void fillWords(const TensorSource& tensor, uint64_t stream, const std::vector<uint16_t>& table, char* data,
               size_t bytes, size_t first, size_t last) {
  for (size_t word = first; word < last; word++) {
    uint64_t bits = mix(stream + word);
    if (tensor.dtype == DType::F16 || tensor.dtype == DType::BF16) {
      uint64_t values = 0;
      for (int shift = 0; shift < 64; shift += 16)
        values |= uint64_t(table[(bits >> shift) & 0xffff]) << shift;
      bits = values;
    } else if (tensor.dtype == DType::F32) {
      uint64_t values = 0;
      for (int shift = 0; shift < 64; shift += 32) {
        const double unit = double(uint32_t(bits >> shift)) / 2147483647.5 - 1.0;
        values |= uint64_t(floatToBits(float(tensor.dummyMean + tensor.dummySpread * unit))) << shift;
      }
      bits = values;
    }
    std::memcpy(data + word * 8, &bits, std::min<size_t>(8, bytes - word * 8));
  }
}

}  // namespace

void fillDummy(const TensorSource& tensor, uint32_t seed, void* data) {
  constexpr size_t kWordsPerThread = 1 << 17;  // 1 MiB: below it a thread costs more than it saves
  const size_t bytes = tensor.bytes(), words = (bytes + 7) / 8;
  const bool half = tensor.dtype == DType::F16 || tensor.dtype == DType::BF16;
  // Small tensors are the common case in tests, and the table has 65,536 entries: they are worth it all the
  // same, since every value must be the same for any size.
  const std::vector<uint16_t> table = half ? halfTable(tensor) : std::vector<uint16_t>();
  const uint64_t stream = streamOf(tensor.name, seed);
  const size_t threads =
      std::clamp<size_t>(words / kWordsPerThread, 1, std::max(1u, std::thread::hardware_concurrency()));
  auto part = [&](size_t t) {
    fillWords(tensor, stream, table, static_cast<char*>(data), bytes, words * t / threads,
              words * (t + 1) / threads);
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads);
  for (size_t t = 1; t < threads; t++) {
    try {
      helpers.emplace_back(part, t);
    } catch (const std::system_error&) {
      part(t);  // no thread to be had: the work remains
    }
  }
  part(0);
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace octavo
