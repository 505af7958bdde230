#include "batch_check.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace octavo {

namespace {

// Strings are only made once something is wrong: these checks run for every token of every step.
template <typename Got, typename... Expected>
[[noreturn]] void failAt(const char* array, int64_t index, const Got& got, const Expected&... expected) {
  fail(code::kArgument, array, "[", index, "]: expected ", concat(expected...), ", got ", got);
}

void checkIndex(const char* array, int64_t index, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) failAt(array, index, value, "an integer in [", low, ", ", high, "]");
}

void checkFinite(const char* array, int64_t index, float value, float low, float high) {
  if (!(value >= low && value <= high) || !std::isfinite(value))
    failAt(array, index, value, "a finite number in [", low, ", ", high, "]");
}

constexpr float kAnyFloat = std::numeric_limits<float>::max();

}  // namespace

BatchChecker::BatchChecker(const RunnerSizes& sizes, int32_t vocabSize)
    : sizes_(sizes),
      vocabSize_(vocabSize),
      kvSlotStamp_(static_cast<uint32_t*>(
          std::calloc(static_cast<size_t>(sizes.numBlocks) * kBlockSize, sizeof(uint32_t)))),
      seqSlotStamp_(sizes.maxNumSeqs, 0) {
  if (!kvSlotStamp_) throw std::bad_alloc();
}

void BatchChecker::nextStamp() {
  if (++stamp_ != 0) return;
  std::fill_n(kvSlotStamp_.get(), static_cast<size_t>(sizes_.numBlocks) * kBlockSize, 0);
  std::fill(seqSlotStamp_.begin(), seqSlotStamp_.end(), 0);
  stamp_ = 1;
}

void BatchChecker::checkBatch(const ArenaView& arena, const BatchCounts& counts, int32_t previousSamples) {
  checkCounts(counts);
  nextStamp();
  if (arena.queryStart[0] != 0) failAt("queryStart", 0, arena.queryStart[0], "0");
  for (int32_t seq = 0; seq < counts.numSeqs; seq++) {
    checkSequence(arena, seq, counts.numTokens);
    checkTokens(arena, seq, previousSamples);
  }
  if (arena.queryStart[counts.numSeqs] != counts.numTokens)
    failAt("queryStart", counts.numSeqs, arena.queryStart[counts.numSeqs], "numTokens, ", counts.numTokens);
  checkSampleRows(arena, counts);
}

void BatchChecker::checkCounts(const BatchCounts& counts) const {
  checkRange(counts.numTokens, 1, sizes_.maxNumTokens, "numTokens");
  checkRange(counts.numSeqs, 1, std::min(sizes_.maxNumSeqs, counts.numTokens), "numSeqs");
  checkRange(counts.numSamples, 0, std::min(sizes_.maxNumSamples, counts.numTokens), "numSamples");
}

void BatchChecker::checkSequence(const ArenaView& arena, int32_t seq, int32_t numTokens) {
  const int32_t start = arena.queryStart[seq];
  // Checked against numTokens here, so that no row beyond the batch is ever looked at.
  checkIndex("queryStart", seq + 1, arena.queryStart[seq + 1], int64_t(start) + 1, numTokens);
  const int32_t count = arena.queryStart[seq + 1] - start;
  checkIndex("contextLens", seq, arena.contextLens[seq], count, sizes_.maxModelLen);
  checkIndex("seqSlot", seq, arena.seqSlot[seq], 0, sizes_.maxNumSeqs - 1);
  uint32_t& stamp = seqSlotStamp_[arena.seqSlot[seq]];
  if (stamp == stamp_)
    failAt("seqSlot", seq, arena.seqSlot[seq], "a slot that no other sequence of the step uses");
  stamp = stamp_;
  checkIndex("numPromptTokens", seq, arena.numPromptTokens[seq], 0, sizes_.maxModelLen);
  const int64_t table = int64_t(seq) * sizes_.maxBlocksPerSeq;
  const int32_t blocks = (arena.contextLens[seq] + kBlockSize - 1) / kBlockSize;
  for (int32_t b = 0; b < blocks; b++)
    checkIndex("blockTables", table + b, arena.blockTables[table + b], 0, sizes_.numBlocks - 1);
}

void BatchChecker::checkTokens(const ArenaView& arena, int32_t seq, int32_t previousSamples) {
  const int32_t start = arena.queryStart[seq], end = arena.queryStart[seq + 1];
  const int32_t firstPosition = arena.contextLens[seq] - (end - start);
  const int32_t* table = arena.blockTables + int64_t(seq) * sizes_.maxBlocksPerSeq;
  for (int32_t row = start; row < end; row++) {
    checkIndex("inputIds", row, arena.inputIds[row], -int64_t(previousSamples), vocabSize_ - 1);
    const int32_t position = firstPosition + (row - start);
    if (arena.positions[row] != position)
      failAt("positions", row, arena.positions[row], position, " (contextLens[", seq, "] - count + row)");
    const int32_t slot = table[position / kBlockSize] * kBlockSize + position % kBlockSize;
    if (arena.slotMapping[row] != slot)
      failAt("slotMapping", row, arena.slotMapping[row], slot, " (block ", table[position / kBlockSize],
             " of position ", position, ")");
    if (kvSlotStamp_[slot] == stamp_)
      failAt("slotMapping", row, slot, "a slot that no other row of the step writes");
    kvSlotStamp_[slot] = stamp_;
  }
}

void BatchChecker::checkSampleRows(const ArenaView& arena, const BatchCounts& counts) const {
  int32_t previousRow = -1, seq = 0;
  for (int32_t r = 0; r < counts.numSamples; r++) {
    const int32_t row = arena.sampleRows[r];
    checkIndex("sampleRows", r, row, int64_t(previousRow) + 1, counts.numTokens - 1);
    previousRow = row;
    while (arena.queryStart[seq + 1] <= row) seq++;
    if (arena.rowSlot[r] != arena.seqSlot[seq])
      failAt("rowSlot", r, arena.rowSlot[r], arena.seqSlot[seq], " (seqSlot[", seq, "] of token row ", row,
             ")");
    if (arena.rowPosition[r] != arena.positions[row])
      failAt("rowPosition", r, arena.rowPosition[r], arena.positions[row], " (positions[", row, "])");
  }
}

void BatchChecker::checkSampling(const ArenaView& arena, int32_t numSamples) const {
  const int64_t capacity = int64_t(sizes_.maxNumSamples) * kMaxBiasPerRow;
  if (numSamples > 0) checkIndex("biasStart", 0, arena.biasStart[0], 0, capacity);
  for (int32_t r = 0; r < numSamples; r++) {
    checkFinite("temperature", r, arena.temperature[r], 0, kAnyFloat);
    checkFinite("topP", r, arena.topP[r], std::numeric_limits<float>::min(), 1);
    checkFinite("minP", r, arena.minP[r], 0, 1);
    checkFinite("repetition", r, arena.repetition[r], std::numeric_limits<float>::min(), kAnyFloat);
    checkFinite("presence", r, arena.presence[r], -kAnyFloat, kAnyFloat);
    checkFinite("frequency", r, arena.frequency[r], -kAnyFloat, kAnyFloat);
    checkIndex("topK", r, arena.topK[r], 0, std::numeric_limits<int32_t>::max());
    checkIndex("targetId", r, arena.targetId[r], -1, vocabSize_ - 1);
    checkIndex("numTop", r, arena.numTop[r], -1, kMaxLogprobs);
    checkIndex("maskRow", r, arena.maskRow[r], -1, sizes_.maxNumSamples - 1);
    checkIndex("biasStart", r + 1, arena.biasStart[r + 1], arena.biasStart[r], capacity);
  }
  if (numSamples == 0) return;
  for (int32_t i = arena.biasStart[0]; i < arena.biasStart[numSamples]; i++) {
    checkIndex("biasId", i, arena.biasId[i], 0, vocabSize_ - 1);
    const float value = arena.biasValue[i];
    // -inf bans an id; NaN and +inf would poison the row.
    if (!(value <= kAnyFloat)) failAt("biasValue", i, value, "a finite number or -Infinity");
  }
}

void BatchChecker::checkHistory(int32_t seqSlot, const int32_t* tokens, size_t length) const {
  checkRange(seqSlot, 0, sizes_.maxNumSeqs - 1, "seqSlot");
  checkRange(int64_t(length), 0, sizes_.maxModelLen, "tokens.length");
  for (size_t i = 0; i < length; i++) checkIndex("tokens", int64_t(i), tokens[i], 0, vocabSize_ - 1);
}

}  // namespace octavo
