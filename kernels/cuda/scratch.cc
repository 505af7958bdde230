#include "scratch.h"

#include <algorithm>

#include "backend.h"
#include "int4_tiles.h"
#include "launchers.h"
#include "sample.h"

namespace octavo::cuda {
namespace {

// Partial results of segments: 128 MiB are 8,000 (token, segment) pairs of 32 heads of 128, so 64 sequences
// of 64k tokens. Beyond it attention walks its segments (attention_plan.cc).
constexpr size_t kMostPartialBytes = size_t{128} << 20;
constexpr int kMostSplitRows = 128;  // linear_plan.cc: larger calls leave no partial sums

int64_t roundUp(int64_t value, int64_t to) {
  return (value + to - 1) / to * to;
}

size_t aligned(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

PlanCapacity capacityOf(const AttentionShape& shape, const OpenOptions& options) {
  PlanCapacity capacity;
  const int64_t segments = roundUp(options.maxContext, kSegment) / kSegment;
  const int64_t group = std::max(1, shape.numHeads / std::max(1, shape.numKvHeads));
  const size_t slotBytes =
      static_cast<size_t>(shape.numHeads) * (pageHeadDim(shape.headDim) + 2) * sizeof(float);
  const int64_t fitting = static_cast<int64_t>(kMostPartialBytes / slotBytes);
  capacity.partials =
      segments > 1 ? std::min(fitting, segments * std::min<int64_t>(options.maxRows, 4 * options.maxSeqs))
                   : 0;
  capacity.partialBytes = static_cast<size_t>(capacity.partials) * slotBytes;
  // An item of one segment holds a slot of at least one token, and a token lies in at most group / 64 + 2 of
  // them; the others are tiles of at least 64 rows, and one more for each sequence.
  capacity.items = static_cast<int>(capacity.partials * (group / 64 + 2) + options.maxRows * group / 64 +
                                    2 * options.maxSeqs + 2);
  capacity.tokens = options.maxRows;
  return capacity;
}

// Calls visit(bytes, member) for the arrays of one shape's plan, in order.
template <class Visit>
void eachArray(const PlanCapacity& capacity, Visit visit) {
  visit(sizeof(int32_t), &PlanArrays::count);
  visit(static_cast<size_t>(capacity.items) * sizeof(AttentionItem), &PlanArrays::items);
  visit(static_cast<size_t>(capacity.tokens) * sizeof(int32_t), &PlanArrays::itemTokens);
  visit(static_cast<size_t>(capacity.tokens) * sizeof(AttentionToken), &PlanArrays::tokens);
}

void addLibrary(const LinearShape& shape, ScratchPlan* plan) {
  const CudaLinear linear = unboundLinear(shape);
  plan->librarySlice = std::max(plan->librarySlice, aligned(librarySliceBytes(linear)));
  plan->libraryPairs = std::max(plan->libraryPairs, aligned(libraryPairBytes(linear, shape.maxRows)));
  plan->libraryWorkspace = kMatmulWorkspace;
}

void addLinear(const LinearShape& shape, const OpenOptions& options, ScratchPlan* plan) {
  const int64_t n = shape.siluMulPairs ? 2 * roundUp(shape.n / 2, 8) : shape.n;
  const int rows = std::min(options.maxRows, kMostSplitRows);
  // Either form of the weights: int4 is padded further than dense.
  for (const int64_t pad : {int64_t{8}, int64_t{kInt4PadK}}) {
    const int paddedN = static_cast<int>(pad == kInt4PadK ? roundUp(n, kInt4PadN) : n);
    const int paddedK = static_cast<int>(roundUp(shape.k, pad));
    const auto partials = static_cast<size_t>(linearPartials(rows, paddedN, paddedK)) * sizeof(float);
    plan->linearPartials = std::max(plan->linearPartials, aligned(partials));
    const auto counters = static_cast<size_t>(linearCounters(paddedN)) * sizeof(int32_t);
    plan->linearCounters = std::max(plan->linearCounters, aligned(counters));
  }
}

}  // namespace

int pageHeadDim(int32_t headDim) {
  if (headDim < 1) return 0;
  for (const int candidate : {32, 64, 80, 96, 128, 256})
    if (headDim <= candidate) return candidate;
  return 0;
}

ScratchPlan planScratch(const OpenOptions& options) {
  ScratchPlan plan;
  for (int i = 0; i < options.numLinears; ++i) {
    addLinear(options.linears[i], options, &plan);
    if (options.useMatmulLibrary && isSupported(options.linears[i])) addLibrary(options.linears[i], &plan);
  }
  for (int i = 0; i < options.numAttentions; ++i) {
    const AttentionShape& shape = options.attentions[i];
    const int pageDim = pageHeadDim(shape.headDim);
    PlanCapacity capacity;
    if (pageDim > 0) capacity = capacityOf(shape, options);
    plan.attentions.push_back(capacity);
    plan.attentionPartials = std::max(plan.attentionPartials, aligned(capacity.partialBytes));
    const auto counters = static_cast<size_t>(options.maxRows) * shape.numKvHeads * sizeof(int32_t);
    plan.attentionCounters = std::max(plan.attentionCounters, aligned(counters));
    eachArray(capacity, [&](size_t bytes, auto) { plan.plans += aligned(bytes); });
    const auto padded = static_cast<size_t>(options.maxRows) * shape.numHeads * pageDim * sizeof(Half);
    if (pageDim != shape.headDim) plan.queries = std::max(plan.queries, aligned(padded));
  }
  plan.sample = aligned(sampleWorkspaceBytes(options.maxSamples, options.vocabSize));
  return plan;
}

std::vector<PlanArrays> cutPlans(const ScratchPlan& plan, char* block) {
  std::vector<PlanArrays> cut;
  for (const PlanCapacity& capacity : plan.attentions) {
    PlanArrays arrays;
    eachArray(capacity, [&](size_t bytes, auto member) {
      using Pointer = std::remove_reference_t<decltype(arrays.*member)>;
      arrays.*member = reinterpret_cast<Pointer>(block);
      block += aligned(bytes);
    });
    cut.push_back(arrays);
  }
  return cut;
}

}  // namespace octavo::cuda
