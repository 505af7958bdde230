#include "attention_plan.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace octavo::cuda {
namespace {

constexpr int kDecodeRows = 16;
constexpr int kWantedBlocks = 132;  // SMs of the larger GPU

int ceilDiv(int a, int b) {
  return (a + b - 1) / b;
}

class Planner {
 public:
  explicit Planner(const AttentionBatch& batch) : batch_(batch), group_(batch.numHeads / batch.numKvHeads) {}

  AttentionPlan plan() {
    placeTokens();
    sharedSegments_.assign(batch_.numSeqs, 0);
    if (batch_.slidingWindow == 0) {
      for (const SharedPrefix& prefix : batch_.prefixes) planPrefix(prefix);
    }
    for (int s = 0; s < batch_.numSeqs; ++s) planSequence(s);
    plan_.numPartials = static_cast<int32_t>(partials_);
    sortIntoRuns();
    return std::move(plan_);
  }

 private:
  struct Planned {
    AttentionItem item;
    int tileRows;
  };

  int tokenCount(int sequence) const { return batch_.queryStart[sequence + 1] - batch_.queryStart[sequence]; }
  int firstPosition(int sequence) const { return batch_.contextLens[sequence] - tokenCount(sequence); }

  int firstVisible(int position) const {
    return batch_.slidingWindow > 0 ? std::max(0, position - batch_.slidingWindow + 1) : 0;
  }

  void placeTokens() {
    plan_.tokens.resize(batch_.queryStart[batch_.numSeqs]);
    for (int s = 0; s < batch_.numSeqs; ++s) {
      for (int i = 0; i < tokenCount(s); ++i) {
        const int position = firstPosition(s) + i, first = firstVisible(position) / kSegment;
        plan_.tokens[batch_.queryStart[s] + i] = {position, first, position / kSegment - first + 1, -1};
      }
    }
  }

  // Slots for the tokens that have several segments.
  void reservePartials(const std::vector<int32_t>& tokens) {
    for (const int32_t t : tokens) {
      if (plan_.tokens[t].numSegments == 1) continue;
      plan_.tokens[t].firstPartial = static_cast<int32_t>(partials_);
      partials_ += plan_.tokens[t].numSegments;
    }
    if (partials_ > batch_.maxPartials) throw std::length_error("attention workspace: too few partial slots");
  }

  int64_t partialsOf(int sequence) const {
    int64_t count = 0;
    for (int t = batch_.queryStart[sequence]; t < batch_.queryStart[sequence + 1]; ++t)
      count += plan_.tokens[t].numSegments;
    return count;
  }

  // One tile of rows over [kvBegin, kvEnd).
  void addItem(int sequence, int firstToken, int firstRow, int numRows, int kvBegin, int kvEnd, bool walksAll,
               int tileRows) {
    planned_.push_back({{sequence, firstToken, firstRow, numRows, kvBegin, kvEnd, walksAll}, tileRows});
  }

  // The whole segments that all sequences of the prefix share, each once for all their rows.
  void planPrefix(const SharedPrefix& prefix) {
    const int segments = prefix.length / kSegment;
    std::vector<int32_t> tokens;
    std::vector<int32_t> members;
    for (const int32_t s : prefix.sequences) {
      if (firstPosition(s) < segments * kSegment) continue;  // still computing the prefix itself
      members.push_back(s);
      for (int t = batch_.queryStart[s]; t < batch_.queryStart[s + 1]; ++t) tokens.push_back(t);
    }
    if (segments == 0 || members.size() < 2) return;
    for (const int32_t s : members) sharedSegments_[s] = segments;
    reservePartials(tokens);
    const int firstToken = static_cast<int>(plan_.itemTokens.size());
    plan_.itemTokens.insert(plan_.itemTokens.end(), tokens.begin(), tokens.end());
    const int rows = static_cast<int>(tokens.size()) * group_, tile = rows <= kDecodeRows ? kDecodeRows : 64;
    for (int row = 0; row < rows; row += tile) {
      for (int segment = 0; segment < segments; ++segment) {
        addItem(members[0], firstToken, row, std::min(tile, rows - row), segment * kSegment,
                (segment + 1) * kSegment, false, tile);
      }
    }
  }

  void planSequence(int s) {
    const int rows = tokenCount(s) * group_;
    if (rows == 0) return;
    const int firstToken = static_cast<int>(plan_.itemTokens.size());
    std::vector<int32_t> tokens(tokenCount(s));
    std::iota(tokens.begin(), tokens.end(), batch_.queryStart[s]);
    plan_.itemTokens.insert(plan_.itemTokens.end(), tokens.begin(), tokens.end());
    const int lastSegment = (batch_.contextLens[s] - 1) / kSegment;
    const int firstSegment = std::max(plan_.tokens[tokens[0]].firstSegment, sharedSegments_[s]);
    const int segments = lastSegment - firstSegment + 1;
    const bool fits = partials_ + partialsOf(s) <= batch_.maxPartials;
    const bool shared = sharedSegments_[s] > 0;
    // A tile of 16 rows sees one segment. Where the workspace has no slots left for several, a taller one
    // walks them.
    const int tile = segments > 1 && !fits && !shared ? std::max(64, tileFor(rows)) : tileFor(rows);
    const bool idle = ceilDiv(rows, tile) * batch_.numKvHeads < kWantedBlocks;
    const bool split = shared || tile == kDecodeRows || (segments > 1 && idle && fits);
    if (split && !shared) reservePartials(tokens);
    for (int row = 0; row < rows; row += tile) {
      const int numRows = std::min(tile, rows - row);
      const int firstPos = firstPosition(s) + row / group_,
                lastPos = firstPosition(s) + (row + numRows - 1) / group_;
      if (split) {
        addSegments(s, firstToken, row, numRows, firstPos, lastPos, tile);
      } else {
        addItem(s, firstToken, row, numRows, firstVisible(firstPos), lastPos + 1, true, tile);
      }
    }
  }

  // An item for each segment that rows at positions firstPos..lastPos see and no shared prefix has covered.
  void addSegments(int s, int firstToken, int row, int numRows, int firstPos, int lastPos, int tile) {
    const int begin = std::max(firstVisible(firstPos), sharedSegments_[s] * kSegment);
    for (int segment = begin / kSegment; segment <= lastPos / kSegment; ++segment) {
      addItem(s, firstToken, row, numRows, std::max(begin, segment * kSegment),
              std::min(lastPos + 1, (segment + 1) * kSegment), false, tile);
    }
  }

  int tileFor(int rows) const {
    if (rows <= kDecodeRows) return kDecodeRows;
    const bool manyTiles = ceilDiv(rows, 128) * batch_.numKvHeads >= kWantedBlocks;
    return manyTiles && batch_.headDim <= 128 ? 128 : 64;
  }

  void sortIntoRuns() {
    std::stable_sort(planned_.begin(), planned_.end(),
                     [](const Planned& a, const Planned& b) { return a.tileRows < b.tileRows; });
    for (const Planned& planned : planned_) {
      if (plan_.runs.empty() || plan_.runs.back().tileRows != planned.tileRows)
        plan_.runs.push_back({planned.tileRows, static_cast<int32_t>(plan_.items.size()), 0});
      ++plan_.runs.back().numItems;
      plan_.items.push_back(planned.item);
    }
  }

  const AttentionBatch& batch_;
  const int group_;  // query heads of a KV head
  AttentionPlan plan_;
  std::vector<Planned> planned_;
  std::vector<int> sharedSegments_;  // [numSeqs] whole segments that a prefix item computes
  int64_t partials_ = 0;
};

}  // namespace

bool attentionSupports(int headDim) {
  constexpr int kHeadDims[] = {32, 64, 80, 96, 128, 256};
  return std::find(std::begin(kHeadDims), std::end(kHeadDims), headDim) != std::end(kHeadDims);
}

AttentionPlan planAttention(const AttentionBatch& batch) {
  return Planner(batch).plan();
}

}  // namespace octavo::cuda
