// A step's way over the device (backend.h draws the streams), and graphs.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "backend.h"

namespace octavo::cuda {
namespace {

// Brings a block of pinned memory to the device and puts its pieces in place in order with the ops.
int bring(CudaContext* context, const void* host, void* staging, size_t bytes, const StagePiece* pieces,
          int count) {
  int status = gpu::copy(staging, host, bytes, context->copyIn);
  if (status == 0) status = gpu::record(context->staged, context->copyIn);
  if (status == 0) status = gpu::wait(context->compute, context->staged);
  if (status == 0) status = placePieces(staging, pieces, count, context->compute);
  return status;
}

// Appends `count` values to the block; the device's array `target` will hold them.
template <class T>
void append(char* block, size_t* used, T* target, const T* values, size_t count,
            std::vector<StagePiece>* pieces) {
  if (count == 0) return;
  std::memcpy(block + *used, values, count * sizeof(T));
  pieces->push_back({target, *used, count * sizeof(T), 0, 1});
  *used += count * sizeof(T);
}

AttentionPlan planFor(const StepAttention& attention, const PlanCapacity& capacity,
                      const BeginStepArgs& args) {
  return planAttention({args.numSeqs,
                        args.queryStart,
                        args.contextLens,
                        attention.shape.numHeads,
                        attention.shape.numKvHeads,
                        attention.pageDim,
                        attention.shape.slidingWindow,
                        {},
                        capacity.partials});
}

// The plans of all attention shapes, on their way to the device. replayable: every item is one of 16 rows.
int bringPlans(CudaContext* context, BeginStepArgs* args) {
  SlotEvents& slot = context->slots[args->slot];
  std::vector<StagePiece> pieces;
  size_t used = 0;
  for (size_t i = 0; i < context->attentions.size(); ++i) {
    StepAttention& attention = context->attentions[i];
    const PlanCapacity& capacity = context->plan.attentions[i];
    AttentionPlan plan = planFor(attention, capacity, *args);
    if (plan.items.size() > static_cast<size_t>(capacity.items) ||
        plan.itemTokens.size() > static_cast<size_t>(capacity.tokens))
      return context->fail("attention: %zu items planned, expected at most %d", plan.items.size(),
                           capacity.items);
    const bool decodes = plan.runs.size() == 1 && plan.runs[0].tileRows == 16;
    if (!decodes) args->replayable = 0;
    const int32_t count = decodes ? plan.runs[0].numItems : 0;
    append(slot.planHost, &used, attention.arrays.count, &count, 1, &pieces);
    append(slot.planHost, &used, attention.arrays.items, plan.items.data(), plan.items.size(), &pieces);
    append(slot.planHost, &used, attention.arrays.itemTokens, plan.itemTokens.data(), plan.itemTokens.size(),
           &pieces);
    append(slot.planHost, &used, attention.arrays.tokens, plan.tokens.data(), plan.tokens.size(), &pieces);
    attention.runs = std::move(plan.runs);
  }
  if (pieces.empty()) return 0;
  return context->check(
      bring(context, slot.planHost, slot.planStaging, used, pieces.data(), static_cast<int>(pieces.size())),
      "attention plan");
}

}  // namespace

int beginStep(Context* base, BeginStepArgs* args) {
  return guarded(base, [&] {
    CudaContext* context = self(base);
    SlotEvents& slot = context->slots[args->slot];
    slot.numMarks = 0;
    slot.lastStage = -1;
    args->replayable = args->fixedRows > 0 ? 1 : 0;
    if (context->check(gpu::record(slot.begin, context->compute), "begin of step") != 0) return 1;
    return bringPlans(context, args);
  });
}

int stage(Context* base, const StageArgs* args) {
  return guarded(base, [&] {
    CudaContext* context = self(base);
    return context->check(
        bring(context, args->block, args->staging, args->bytes, args->pieces, args->numPieces),
        "step inputs");
  });
}

int resolveStep(Context* base, const ResolveArgs* args) {
  return guarded(base, [&] { return self(base)->check(resolve(*args, self(base)->compute), "resolve"); });
}

// On a stream of its own, behind everything that has been launched so far.
int copyOutRows(Context* base, const CopyOutArgs* args) {
  CudaContext* context = self(base);
  int status = gpu::record(context->computed, context->compute);
  if (status == 0) status = gpu::wait(context->copyOut, context->computed);
  if (status == 0)
    status = gpu::copyRows(args->target, args->targetPitch, args->source, args->sourcePitch, args->rowBytes,
                           static_cast<size_t>(args->rows), context->copyOut);
  return context->check(status, "copy from the device");
}

int mark(Context* base, int32_t slotIndex, int32_t stageIndex) {
  CudaContext* context = self(base);
  SlotEvents& slot = context->slots[slotIndex];
  if (slot.numMarks == kMostMarks) return 0;
  slot.stages[slot.numMarks] = stageIndex;
  return context->check(gpu::record(slot.marks[slot.numMarks++], context->compute), "mark");
}

int endStep(Context* base, int32_t slotIndex, int32_t stageIndex) {
  CudaContext* context = self(base);
  SlotEvents& slot = context->slots[slotIndex];
  slot.lastStage = stageIndex;
  int status = gpu::record(context->computed, context->compute);
  if (status == 0) status = gpu::wait(context->copyOut, context->computed);
  if (status == 0) status = gpu::record(slot.end, context->copyOut);
  return context->check(status, "end of step");
}

int waitStep(Context* base, int32_t slotIndex, double* microseconds, char* error, size_t errorSize) {
  SlotEvents& slot = self(base)->slots[slotIndex];
  int status = gpu::synchronize(slot.end);
  gpu::Event previous = slot.begin;
  for (int i = 0; i <= slot.numMarks && status == 0; ++i) {
    const bool last = i == slot.numMarks;
    const gpu::Event event = last ? slot.end : slot.marks[i];
    const int stageIndex = last ? slot.lastStage : slot.stages[i];
    double elapsed = 0;
    status = gpu::elapsed(previous, event, &elapsed);
    if (stageIndex >= 0 && status == 0) microseconds[stageIndex] += elapsed;
    previous = event;
  }
  if (status != 0) std::snprintf(error, errorSize, "%s", gpu::errorText(status));
  return status;
}

int beginCapture(Context* base) {
  CudaContext* context = self(base);
  // Nothing of what was launched before may be waited for inside of a capture.
  int status = gpu::synchronize(context->compute);
  if (status == 0) status = gpu::beginCapture(context->compute);
  context->capturing = status == 0;
  return context->check(status, "capture");
}

Graph* endCapture(Context* base) {
  CudaContext* context = self(base);
  context->capturing = false;
  gpu::Graph graph = nullptr;
  if (context->check(gpu::endCapture(context->compute, &graph), "capture") != 0) return nullptr;
  context->graphs.push_back(graph);
  return reinterpret_cast<Graph*>(graph);
}

int replay(Context* base, Graph* graph) {
  CudaContext* context = self(base);
  return context->check(gpu::launch(reinterpret_cast<gpu::Graph>(graph), context->compute), "replay");
}

}  // namespace octavo::cuda
