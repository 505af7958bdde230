// Searching a row without sorting it. Floats become integers of the same order; a search finds the value at
// which the weight (a count, or a mass in fixed point) of everything above it reaches a target, 8 bits at a
// time, by histograms of integer atomics: exact, and the same for any order of the threads.
#pragma once
#include "device.h"

namespace octavo::cuda {

constexpr int kSampleThreads = 512;
constexpr int kBins = 256;
constexpr int kMostTop = 20;  // ops.h kMaxLogprobs

struct SampleShared {
  uint64_t histogram[kBins];
  uint64_t top[kMostTop];
  uint64_t best;
  uint64_t weightAbove;
  float scratch[kWarpSize];
  uint32_t counts[kSampleThreads];
  uint32_t digit;
  uint32_t numTop;
  int32_t idLimit;
};

// Order-preserving: a < b as floats exactly if orderedBits(a) < orderedBits(b); -0 counts as 0. No NaN.
DEVICE uint32_t orderedBits(float x) {
  const uint32_t bits = floatBits(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEVICE float cleanLogit(float x) {
  return x != x ? -INFINITY : x;
}  // NaN is never chosen

// The largest first, ties by ascending id: comparing these compares (value, id).
DEVICE uint64_t valueAndId(uint32_t ordered, int id) {
  return static_cast<uint64_t>(ordered) << 32 | static_cast<uint32_t>(~id);
}
DEVICE int idOf(uint64_t packed) {
  return static_cast<int>(~static_cast<uint32_t>(packed));
}

// Largest value of the block, in every thread.
DEVICE uint64_t blockMax(uint64_t value, SampleShared& shared) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    const uint64_t other = shuffleXor(value, mask);
    value = other > value ? other : value;
  }
  syncThreads();  // the last use of shared.best is over
  if (threadX() == 0) shared.best = 0;
  syncThreads();
  if (laneOf(threadX()) == 0) atomicMax(&shared.best, value);
  syncThreads();
  return shared.best;
}

// Sum of a value over the block, in every thread.
DEVICE uint64_t blockTotal(uint64_t value, SampleShared& shared) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffleXor(value, mask);
  syncThreads();
  if (threadX() == 0) shared.weightAbove = 0;
  syncThreads();
  if (laneOf(threadX()) == 0) atomicAdd(&shared.weightAbove, value);
  syncThreads();
  return shared.weightAbove;
}

// What is kept of a row: everything whose ordered bits are above `key`, and the `ties` lowest ids that equal
// it.
struct Cut {
  uint32_t key;
  uint64_t ties;
};

// The value at which weight reaches the target: weight of values above key < target <= weight of values >=
// key. Only values above `floor` count; their total weight is at least target > 0. weightAbove: of values
// above key.
//   value(id) -> ordered bits; weight(ordered) -> uint64_t
template <class Value, class Weight>
DEVICE uint32_t searchWeight(int vocab, uint32_t floor, uint64_t target, const Value& value,
                             const Weight& weight, SampleShared& shared, uint64_t& weightAbove) {
  uint32_t prefix = 0;
  weightAbove = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    syncThreads();
    for (int i = threadX(); i < kBins; i += kSampleThreads) shared.histogram[i] = 0;
    syncThreads();
    for (int id = threadX(); id < vocab; id += kSampleThreads) {
      const uint32_t x = value(id);
      const bool candidate = x > floor && (shift == 24 || x >> (shift + 8) == prefix);
      if (candidate) atomicAdd(&shared.histogram[x >> shift & (kBins - 1)], weight(x));
    }
    syncThreads();
    if (threadX() < kBins) {  // exactly one bin holds the target
      uint64_t above = weightAbove;
      for (int bin = threadX() + 1; bin < kBins; ++bin) above += shared.histogram[bin];
      if (above < target && above + shared.histogram[threadX()] >= target) {
        shared.digit = static_cast<uint32_t>(threadX());
        shared.weightAbove = above;
      }
    }
    syncThreads();
    prefix = prefix << 8 | shared.digit;
    weightAbove = shared.weightAbove;
  }
  return prefix;
}

struct CountOne {
  DEVICE_MEMBER uint64_t operator()(uint32_t) const { return 1; }
};

// The cut that keeps the `count` largest of the values above `floor`, of which there are at least that many.
template <class Value>
DEVICE Cut cutToCount(int vocab, uint32_t floor, uint64_t count, const Value& value, SampleShared& shared) {
  uint64_t above;
  const uint32_t key = searchWeight(vocab, floor, count, value, CountOne(), shared, above);
  return {key, count - above};
}

// Ids below the result are the ones to keep among those that equal the cut's key.
template <class Value>
DEVICE int tieLimit(int vocab, const Cut& cut, const Value& value, SampleShared& shared) {
  if (cut.ties == 0) return 0;
  const int chunk = ceilDiv(vocab, kSampleThreads), begin = threadX() * chunk,
            end = minOf(begin + chunk, vocab);
  uint32_t own = 0;
  for (int id = begin; id < end; ++id) own += value(id) == cut.key;
  syncThreads();
  shared.counts[threadX()] = own;
  if (threadX() == 0) shared.idLimit = vocab;
  syncThreads();
  uint64_t before = 0;
  for (int i = 0; i < threadX(); ++i) before += shared.counts[i];
  if (before < cut.ties && before + own >= cut.ties) {
    int id = begin;
    for (uint64_t seen = before;; ++id) {
      seen += value(id) == cut.key;
      if (seen == cut.ties) break;
    }
    shared.idLimit = id + 1;
  }
  syncThreads();
  return shared.idLimit;
}

DEVICE bool keeps(const Cut& cut, int limit, uint32_t ordered, int id) {
  return ordered > cut.key || (ordered == cut.key && id < limit);
}

}  // namespace octavo::cuda
