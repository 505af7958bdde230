// Top-k and top-p without a sort: the threshold is found digit by digit (11, 11, 10 bits) of the ordered keys
// of the logits, by a histogram of weights: 1 per token for top-k, its probability in fixed point for top-p.
// Integer sums don't depend on their order, so the result is exact and the same for every schedule. Ties at
// the threshold that only partly fit are decided by id.
//
// Bytes: 4 per logit and level, for the slices that reach as high as the prefix; after the first level those
// are few. 18 KB of shared memory. A weight is added as two 32-bit halves: shared memory has no 64-bit
// addition in hardware.
#include "sample_row.h"

namespace octavo::cuda {
namespace {

constexpr int kLevels = 3;
constexpr int kBinsPerThread = kHistogramBins / kSampleThreads;
constexpr float kMassOne = 0x1p43f;  // of the likeliest token; 2^20 of them fit 64 bits

struct SearchShared {
  uint32_t low[kHistogramBins], high[kHistogramBins];
  uint64_t sums[kSampleThreads];
  uint32_t votes[kSampleWarps];
  int32_t flag, bin, tie;
  uint64_t before, weight;  // of the bin: what lies above it, what it holds
};

template <int kLevel>
DEVICE uint32_t prefixOf(uint32_t key) {
  return kLevel == 0 ? 0 : kLevel == 1 ? key >> 21 : key >> 10;
}
template <int kLevel>
DEVICE uint32_t digitOf(uint32_t key) {
  return kLevel == 0 ? key >> 21 : kLevel == 1 ? key >> 10 & 2047u : key & 1023u;
}

template <bool kByMass>
DEVICE uint64_t weightOf(float x, float highest, float temperature) {
  return kByMass ? static_cast<uint64_t>(expf((x - highest) / temperature) * kMassOne) : 1;
}

// Whether the row takes part, at the first level.
template <bool kByMass>
DEVICE bool isWanted(const SampleArgs& args, const SampleRow& state, int row) {
  if (state.done) return false;
  return kByMass ? args.topP[row] < 1.0f : args.topK[row] > 0 && args.topK[row] < args.vocab;
}

DEVICE void addWeight(SearchShared* shared, uint32_t bin, uint64_t weight) {
  const uint32_t low = static_cast<uint32_t>(weight);
  const uint32_t carry = atomicAdd(&shared->low[bin], low) > 0xffffffffu - low ? 1u : 0u;
  const uint32_t high = static_cast<uint32_t>(weight >> 32) + carry;
  if (high) atomicAdd(&shared->high[bin], high);
}

// Adds the slice's kept tokens that start with the prefix to the row's histogram in memory.
template <bool kByMass, int kLevel>
DEVICE void countSlice(const SampleArgs& args, const SampleScratch& scratch, const SampleRow& state, int row,
                       SearchShared* shared) {
  for (int bin = threadX(); bin < kHistogramBins; bin += kSampleThreads)
    shared->low[bin] = shared->high[bin] = 0;
  syncThreads();
  const float* x = adjustedRow(args, scratch, row);
  const float temperature = args.temperature[row];
#pragma unroll
  for (int g = 0; g < kGroupsPerThread; ++g) {
    const int token = groupToken(g);
    const Group group = loadGroup(x, token, args.vocab);
#pragma unroll
    for (int i = 0; i < kGroupTokens; ++i) {
      const uint32_t key = orderedKey(group.x[i]);
      if (!isKept(state, group.x[i], token + i) || prefixOf<kLevel>(key) != state.prefix) continue;
      const uint64_t weight = weightOf<kByMass>(group.x[i], state.highest, temperature);
      if (weight) addWeight(shared, digitOf<kLevel>(key), weight);
    }
  }
  syncThreads();
  uint64_t* histogram = scratch.histogram + static_cast<int64_t>(row) * kHistogramBins;
  for (int bin = threadX(); bin < kHistogramBins; bin += kSampleThreads) {
    const uint64_t weight = static_cast<uint64_t>(shared->high[bin]) << 32 | shared->low[bin];
    if (weight) atomicAdd(&histogram[bin], weight);
  }
}

// Finds the bin, from the highest down, in which the sum of weights reaches the target; -1 if none does. At
// the first level of top-p the target becomes a share of the sum. Leaves the histogram zero.
DEVICE void findBin(uint64_t* histogram, SampleRow* state, bool setTarget, float topP, SearchShared* shared) {
  const int firstBin = kHistogramBins - 1 - threadX() * kBinsPerThread;  // thread 0 has the highest bins
  uint64_t bins[kBinsPerThread], sum = 0;
  for (int i = 0; i < kBinsPerThread; ++i) {
    bins[i] = readBack(&histogram[firstBin - i]);
    histogram[firstBin - i] = 0;
    sum += bins[i];
  }
  shared->sums[threadX()] = sum;
  if (threadX() == 0) shared->bin = -1;
  syncThreads();
  for (int distance = 1; distance < kSampleThreads; distance *= 2) {
    const uint64_t left = threadX() >= distance ? shared->sums[threadX() - distance] : 0;
    syncThreads();
    shared->sums[threadX()] += left;
    syncThreads();
  }
  const uint64_t total = shared->sums[kSampleThreads - 1];
  if (setTarget) {
    const double share = ceil(static_cast<double>(topP) * static_cast<double>(total));
    state->target = share > 1.0 ? static_cast<uint64_t>(share) : 1;  // at least the likeliest token
  }
  uint64_t before = state->above + shared->sums[threadX()] - sum;
  for (int i = 0; i < kBinsPerThread; ++i) {
    if (before < state->target && before + bins[i] >= state->target) {
      shared->bin = firstBin - i;
      shared->before = before;
      shared->weight = bins[i];
    }
    before += bins[i];
  }
  syncThreads();
}

DEVICE uint32_t bitCount(uint32_t bits) {
  bits -= bits >> 1 & 0x55555555u;
  bits = (bits & 0x33333333u) + (bits >> 2 & 0x33333333u);
  return ((bits + (bits >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

// Id of the nth (from 1) kept token with this key, in ascending order. Needed only when ties straddle the
// threshold.
DEVICE int findTie(const SampleArgs& args, const SampleScratch& scratch, const SampleRow& state, int row,
                   uint32_t key, uint64_t nth, SearchShared* shared) {
  const float* x = adjustedRow(args, scratch, row);
  const SlicePartial* slices = scratch.slices + static_cast<int64_t>(row) * scratch.numSlices;
  uint64_t seen = 0;
  for (int first = 0; first < args.vocab; first += kSampleThreads) {
    if (packedKey(slices[first / kSliceTokens].best) < key) continue;  // adjust wrote it, a launch ago
    const int token = first + threadX();
    bool matches = false;
    if (token < args.vocab) {
      const float value = cleaned(x[token]);
      matches = orderedKey(value) == key && isKept(state, value, token);
    }
    const uint32_t votes = ballot(matches);
    if (laneOf(threadX()) == 0) shared->votes[warpOf(threadX())] = votes;
    syncThreads();
    uint64_t earlier = seen + bitCount(votes & ((1u << laneOf(threadX())) - 1u));
    for (int warp = 0; warp < kSampleWarps; ++warp) {
      const uint32_t count = bitCount(shared->votes[warp]);
      seen += count;
      if (warp < warpOf(threadX())) earlier += count;
    }
    if (matches && earlier + 1 == nth) shared->tie = token;
    syncThreads();
    if (seen >= nth) break;
  }
  return shared->tie;
}

// Joins a level: one more digit of the threshold, or after the last one the threshold itself.
template <bool kByMass, int kLevel>
DEVICE void narrow(const SampleArgs& args, const SampleScratch& scratch, SampleRow state, int row,
                   SearchShared* shared) {
  if (kLevel == 0) state.target = kByMass ? 0 : static_cast<uint64_t>(args.topK[row]);
  findBin(scratch.histogram + static_cast<int64_t>(row) * kHistogramBins, &state, kByMass && kLevel == 0,
          args.topP[row], shared);
  const int bin = shared->bin;
  state.searching = bin >= 0;
  if (bin >= 0) {
    state.above = shared->before;
    constexpr int kDigitBits = kLevel == kLevels - 1 ? 10 : 11;
    state.prefix = state.prefix << kDigitBits | static_cast<uint32_t>(bin);
  }
  if (kLevel == kLevels - 1 && bin >= 0) {
    const uint32_t key = state.prefix;
    const uint64_t weight = weightOf<kByMass>(keyValue(key), state.highest, args.temperature[row]);
    const uint64_t fitting = (state.target - state.above + weight - 1) / weight;
    const bool straddles = fitting < shared->weight / weight;
    const int earlierLimit = key == state.lowKey ? state.idLimit : kAllIds;
    const int limit = straddles ? findTie(args, scratch, state, row, key, fitting, shared) : earlierLimit;
    state.lowKey = key;
    state.idLimit = limit;
  }
  if (kLevel == kLevels - 1 || bin < 0) {
    state.searching = 0;
    state.prefix = 0;
    state.above = 0;
  }
  if (threadX() == 0) scratch.rows[row] = state;
}

template <bool kByMass, int kLevel>
KERNEL LAUNCH_BOUNDS(kSampleThreads, 4) sampleSearchKernel(SampleArgs args, SampleScratch scratch) {
  auto* shared = reinterpret_cast<SearchShared*>(sharedMemory());
  const int row = blockY();
  const SampleRow state = scratch.rows[row];
  if (kLevel == 0 ? !isWanted<kByMass>(args, state, row) : !state.searching) return;
  const uint64_t best = scratch.slices[static_cast<int64_t>(row) * scratch.numSlices + blockX()].best;
  const uint32_t highest = packedKey(best);
  if (highest >= state.lowKey && prefixOf<kLevel>(highest) >= state.prefix)
    countSlice<kByMass, kLevel>(args, scratch, state, row, shared);
  if (isLastOfRow(&scratch.counters[row], &shared->flag))
    narrow<kByMass, kLevel>(args, scratch, state, row, shared);
}

template <bool kByMass, int kLevel>
int launchLevel(const SampleCall& call, const SampleScratch& scratch, Stream stream) {
  return launch(sampleSearchKernel<kByMass, kLevel>, sampleGrid(call, scratch), kSampleThreads,
                sizeof(SearchShared), stream, call.args, scratch);
}

template <bool kByMass>
int launchLevels(const SampleCall& call, const SampleScratch& scratch, Stream stream) {
  int status = launchLevel<kByMass, 0>(call, scratch, stream);
  if (status == 0) status = launchLevel<kByMass, 1>(call, scratch, stream);
  if (status == 0) status = launchLevel<kByMass, 2>(call, scratch, stream);
  return status;
}

}  // namespace

int launchSampleSearch(const SampleCall& call, const SampleScratch& scratch, bool byMass, Stream stream) {
  return byMass ? launchLevels<true>(call, scratch, stream) : launchLevels<false>(call, scratch, stream);
}

}  // namespace octavo::cuda
