#include "step.h"

#include <algorithm>
#include <chrono>

#include "check.h"

namespace octavo {

namespace {

// Bytes of all that stageBatch() and stageSampling() may send.
size_t batchBytes(const RunnerSizes& s) {
  const size_t words = 3 * size_t(s.maxNumTokens) + 4 * size_t(s.maxNumSeqs) + 1 +
                       size_t(s.maxNumSeqs) * s.maxBlocksPerSeq + 3 * size_t(s.maxNumSamples);
  return words * sizeof(int32_t);
}

size_t samplingBytes(const RunnerSizes& s, int32_t vocabSize) {
  const size_t perRow = 14 + 2 * kMaxBiasPerRow + size_t(maskWords(vocabSize));
  return (perRow * size_t(s.maxNumSamples) + 1) * sizeof(int32_t);
}

size_t freeMemory(const Ops& ops) {
  DeviceDescription device{};
  char reason[256];
  return ops.describe && ops.describe(&device, reason, sizeof reason) == 0 ? size_t(device.freeMemory) : 0;
}

}  // namespace

StepPlayer::StepPlayer(const Device& device, const RunnerSpec& spec, const ArenaLayout& layout)
    : device_(device), sizes_(spec.sizes), vocabSize_(spec.program.vocabSize) {
  auto take = [&](size_t bytes, const char* purpose) {
    workspaceBytes_ += bytes;
    return device_.alloc(bytes, purpose);
  };
  on_ = viewArena(take(layout.bytes, "step inputs"), layout);
  const size_t history =
      checkedProduct("token history", {sizes_.maxNumSeqs, sizes_.maxModelLen, int64_t(sizeof(int32_t))});
  history_ = static_cast<int32_t*>(take(history, "token history"));
  numPrompt_ = static_cast<int32_t*>(take(size_t(sizes_.maxNumSeqs) * sizeof(int32_t), "prompt lengths"));
  replayed_ = static_cast<ReplayedRows*>(take(sizeof(ReplayedRows), "rows of a replay"));
  const ArenaLayout outputs = makeOutputLayout(sizes_);
  auto* out = static_cast<char*>(take(kNumSlots * outputs.bytes, "step outputs"));
  slotDistance_ = static_cast<int32_t>(outputs.bytes / sizeof(int32_t));
  for (SlotMemory& slot : slots_) {
    slot.out = viewOutputs(out, outputs);
    out += outputs.bytes;
    slot.batch = std::make_unique<StageBlock>(device_, batchBytes(sizes_), "step inputs");
    slot.sampling =
        std::make_unique<StageBlock>(device_, samplingBytes(sizes_, vocabSize_), "sampling parameters");
    workspaceBytes_ += slot.batch->bytes() + slot.sampling->bytes();
  }
}

StepInputs StepPlayer::stepInputs(int32_t numTokens, int32_t numSeqs) const {
  return {numTokens,       numSeqs,        on_.inputIds,    on_.positions,
          on_.slotMapping, on_.queryStart, on_.contextLens, on_.blockTables};
}

GraphUse StepPlayer::capture(const Playback& playback, const std::vector<int32_t>& buckets) {
  const auto began = std::chrono::steady_clock::now();
  const size_t freeBefore = freeMemory(device_.ops);
  for (const int32_t rows : buckets)
    graphs_.push_back({rows, captureOne(playback, rows, false), captureOne(playback, rows, true)});
  device_.expect(device_.ops.sync(device_.context), "capture");
  const size_t freeAfter = freeMemory(device_.ops);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  return {static_cast<int32_t>(2 * graphs_.size()), took.count(),
          freeBefore - std::min(freeBefore, freeAfter)};
}

Graph* StepPlayer::captureOne(const Playback& playback, int32_t rows, bool withSampling) const {
  device_.expect(device_.ops.beginCapture(device_.context), "capture");
  const StepInputs step = stepInputs(rows, rows);
  playback.playBody(step, on_.sampleRows, rows);
  playback.playHead(step, on_.sampleRows, 0, rows);
  if (withSampling) {
    SampleArgs args = deviceArgs(playback, 0, 0, rows);
    args.replayed = replayed_;
    device_.expect(device_.ops.sample(device_.context, &args), "sample");
  }
  Graph* graph = device_.ops.endCapture(device_.context);
  device_.expect(graph ? 0 : 1, "capture");
  return graph;
}

bool StepPlayer::enqueue(const Playback& playback, StepJob& job) {
  const CapturedGraphs* graphs = begin(job);
  const bool samples = graphs && samplesInGraph(job);
  applyHistory(job);
  stageBatch(job);
  if (samples) stageSampling(job);
  resolve(job, graphs ? graphs->rows : 0);
  mark(job, kCopyIn);
  const StepInputs step = stepInputs(job.counts.numTokens, job.counts.numSeqs);
  if (graphs) {
    Graph* graph = samples ? graphs->toSamples : graphs->toLogits;
    device_.expect(device_.ops.replay(device_.context, graph), "replay");
  } else {
    playback.playBody(step, on_.sampleRows, job.counts.numSamples);
  }
  mark(job, kForward);
  if (samples) {
    downloadLogits(playback, job, 0, job.counts.numSamples);
  } else if (!sampleRows(playback, job, step, graphs != nullptr)) {
    return false;
  }
  copyOut(job);
  device_.expect(device_.ops.endStep(device_.context, job.slot, kCopyOut), "end of step");
  previousSlot_ = job.slot;
  previousSamples_ = job.counts.numSamples;
  return true;
}

void StepPlayer::finish(StepJob& job) const {
  double microseconds[kMaxStepStages] = {};
  char reason[256] = "";
  if (device_.ops.waitStep(device_.context, job.slot, microseconds, reason, sizeof reason) != 0)
    fail(code::kDevice, device_.ops.name, " step failed: ", reason[0] ? reason : "no reason given");
  std::copy(microseconds, microseconds + kTotal, job.outputs.timings);
  job.outputs.timings[kTotal] = 0;
  for (int stage = 0; stage < kTotal; stage++) job.outputs.timings[kTotal] += microseconds[stage];
  for (int32_t r = 0; r < job.counts.numSamples; r++)
    if (job.outputs.sampledIds[r] < 0 || job.outputs.sampledIds[r] >= vocabSize_)
      fail(code::kDevice, "sampledIds[", r, "]: expected an id in [0, ", vocabSize_ - 1, "], got ",
           job.outputs.sampledIds[r]);
}

const StepPlayer::CapturedGraphs* StepPlayer::begin(const StepJob& job) const {
  const BatchCounts& counts = job.counts;
  const CapturedGraphs* graphs = nullptr;
  if (counts.numSeqs == counts.numTokens && counts.numSamples == counts.numTokens)
    for (const CapturedGraphs& candidate : graphs_)
      if (!graphs && candidate.rows >= counts.numTokens) graphs = &candidate;
  BeginStepArgs args{};
  args.slot = job.slot;
  args.numTokens = counts.numTokens;
  args.numSeqs = counts.numSeqs;
  args.queryStart = job.inputs.queryStart;
  args.contextLens = job.inputs.contextLens;
  args.fixedRows = graphs ? graphs->rows : 0;
  device_.expect(device_.ops.beginStep(device_.context, &args), "begin of step");
  return args.replayable ? graphs : nullptr;
}

bool StepPlayer::samplesInGraph(const StepJob& job) const {
  if (!job.samplingReady) return false;
  const SampleArgs host = sampleArgs(job.inputs, ArenaView(), 0, job.counts.numSamples);
  return device_.ops.sampleInGraph(&host) != 0;
}

void StepPlayer::applyHistory(const StepJob& job) {
  for (const HistoryUpdate& update : job.history) {
    int32_t* row = history_ + int64_t(update.seqSlot) * sizes_.maxModelLen;
    const size_t bytes = update.tokens.size() * sizeof(int32_t);
    device_.expect(device_.ops.upload(device_.context, row, update.tokens.data(), bytes), "upload");
  }
}

void StepPlayer::stageBatch(const StepJob& job) {
  const ArenaView& in = job.inputs;
  const int32_t tokens = job.counts.numTokens, seqs = job.counts.numSeqs, samples = job.counts.numSamples;
  StageBlock& block = *slots_[job.slot].batch;
  block.clear();
  for (auto array : {&ArenaView::inputIds, &ArenaView::positions, &ArenaView::slotMapping})
    block.add(on_.*array, in.*array, 0, tokens);
  block.add(on_.queryStart, in.queryStart, 0, seqs + 1);
  for (auto array : {&ArenaView::contextLens, &ArenaView::seqSlot, &ArenaView::numPromptTokens})
    block.add(on_.*array, in.*array, 0, seqs);
  for (auto array : {&ArenaView::sampleRows, &ArenaView::rowSlot, &ArenaView::rowPosition})
    block.add(on_.*array, in.*array, 0, samples);
  const int32_t longest = *std::max_element(in.contextLens, in.contextLens + seqs);
  block.addRows(on_.blockTables, in.blockTables, (longest + kBlockSize - 1) / kBlockSize,
                sizes_.maxBlocksPerSeq, seqs);
  block.send(job.slot);
}

// A negative id -1 - r is the token sampled in row r of the previous launch; the launch was only accepted for
// rows that it had.
void StepPlayer::resolve(const StepJob& job, int32_t fixedRows) const {
  ResolveArgs args{};
  args.ids = on_.inputIds;
  args.numTokens = job.counts.numTokens;
  args.numSeqs = job.counts.numSeqs;
  args.numSampled = previousSamples_;
  args.sampled = slots_[previousSlot_].out.sampledIds;
  args.queryStart = on_.queryStart;
  args.positions = on_.positions;
  args.seqSlot = on_.seqSlot;
  args.numPromptTokens = on_.numPromptTokens;
  args.history = history_;
  args.numPrompt = numPrompt_;
  args.maxContext = sizes_.maxModelLen;
  args.vocabSize = vocabSize_;
  args.fixedRows = fixedRows;
  args.fixedPositions = on_.positions;
  args.fixedSlotMapping = on_.slotMapping;
  args.fixedSampleRows = on_.sampleRows;
  args.replayed = replayed_;
  args.outOffset = job.slot * slotDistance_;
  device_.expect(device_.ops.resolve(device_.context, &args), "resolve");
}

bool StepPlayer::sampleRows(const Playback& playback, StepJob& job, const StepInputs& step, bool headDone) {
  const int32_t samples = job.counts.numSamples;
  for (int32_t first = 0; first == 0 || first < samples; first += sizes_.logitsRows) {
    const int32_t count = std::min(sizes_.logitsRows, samples - first);
    if (count > 0 && !headDone) playback.playHead(step, on_.sampleRows, first, count);
    mark(job, kHead);
    if (first == 0) {
      // The logits of the first slice are computed while masks are still being made.
      if (!job.waitForSampling()) return false;
      mark(job, -1);  // waiting is nobody's work
      stageSampling(job);
      mark(job, kCopyIn);
    }
    if (count > 0) sampleSlice(playback, job, first, count);
    mark(job, kSample);
  }
  return true;
}

void StepPlayer::stageSampling(const StepJob& job) {
  const ArenaView& in = job.inputs;
  const int32_t samples = job.counts.numSamples;
  if (samples == 0) return;
  StageBlock& block = *slots_[job.slot].sampling;
  block.clear();
  for (auto array : {&ArenaView::temperature, &ArenaView::topP, &ArenaView::minP, &ArenaView::repetition,
                     &ArenaView::presence, &ArenaView::frequency})
    block.add(on_.*array, in.*array, 0, samples);
  for (auto array : {&ArenaView::topK, &ArenaView::seedLo, &ArenaView::seedHi, &ArenaView::targetId,
                     &ArenaView::numTop, &ArenaView::maskRow})
    block.add(on_.*array, in.*array, 0, samples);
  block.add(on_.biasStart, in.biasStart, 0, samples + 1);
  const int32_t first = in.biasStart[0], biases = in.biasStart[samples] - first;
  block.add(on_.biasId, in.biasId, first, biases);
  block.add(on_.biasValue, in.biasValue, first, biases);
  const int64_t words = maskWords(vocabSize_);
  std::vector<int32_t> rows;  // rows may share a mask: each is sent once, or the block could overflow
  for (int32_t r = 0; r < samples; r++)
    if (in.maskRow[r] >= 0) rows.push_back(in.maskRow[r]);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  for (const int32_t row : rows) block.add(on_.masks, in.masks, row * words, words);
  block.send(job.slot);
}

void StepPlayer::sampleSlice(const Playback& playback, StepJob& job, int32_t first, int32_t count) const {
  const SampleArgs host = sampleArgs(job.inputs, ArenaView(), first, count);
  SampleArgs args = deviceArgs(playback, job.slot, first, count);
  args.host = &host;
  device_.expect(device_.ops.sample(device_.context, &args), "sample");
  downloadLogits(playback, job, first, count);
}

void StepPlayer::downloadLogits(const Playback& playback, const StepJob& job, int32_t first,
                                int32_t count) const {
  if (!job.outputs.logits) return;
  const size_t bytes = size_t(count) * vocabSize_ * sizeof(float);
  float* target = job.outputs.logits + int64_t(first) * vocabSize_;
  device_.expect(device_.ops.download(device_.context, target, playback.logits(), bytes), "download");
}

SampleArgs StepPlayer::deviceArgs(const Playback& playback, int32_t slot, int32_t first,
                                  int32_t count) const {
  SampleArgs args = sampleArgs(on_, slots_[slot].out, first, count);
  args.logits = playback.logits();
  args.history = history_;
  args.numPrompt = numPrompt_;
  return args;
}

SampleArgs StepPlayer::sampleArgs(const ArenaView& in, const ArenaView& out, int32_t first,
                                  int32_t count) const {
  SampleArgs args{};
  args.stride = vocabSize_;
  args.rows = count;
  args.vocab = vocabSize_;
  args.rowSlot = in.rowSlot + first;
  args.rowPosition = in.rowPosition + first;
  args.temperature = in.temperature + first;
  args.topP = in.topP + first;
  args.minP = in.minP + first;
  args.repetition = in.repetition + first;
  args.presence = in.presence + first;
  args.frequency = in.frequency + first;
  args.topK = in.topK + first;
  args.seedLo = in.seedLo + first;
  args.seedHi = in.seedHi + first;
  args.targetId = in.targetId + first;
  args.numTop = in.numTop + first;
  args.biasStart = in.biasStart + first;
  args.biasId = in.biasId;
  args.biasValue = in.biasValue;
  args.maskRow = in.maskRow + first;
  args.masks = in.masks;
  args.maxContext = sizes_.maxModelLen;
  if (!out.sampledIds) return args;
  args.sampledIds = out.sampledIds + first;
  args.logprob = out.logprob + first;
  args.targetLogprob = out.targetLogprob + first;
  args.rank = out.rank + first;
  args.targetRank = out.targetRank + first;
  args.topIds = out.topIds + int64_t(first) * kMaxLogprobs;
  args.topLogprobs = out.topLogprobs + int64_t(first) * kMaxLogprobs;
  return args;
}

// sampledIds .. targetRank have the same length and pitch on both sides, so they are the rows of one copy.
void StepPlayer::copyOut(const StepJob& job) const {
  const int32_t samples = job.counts.numSamples;
  if (samples == 0) return;
  const ArenaView &from = slots_[job.slot].out, &to = job.outputs;
  constexpr int32_t kNumArrays = 5;
  auto copy = [&](const CopyOutArgs& args) {
    device_.expect(device_.ops.copyOut(device_.context, &args), "copy out");
  };
  auto pitch = [](const int32_t* first, const float* second) {
    return size_t(reinterpret_cast<const char*>(second) - reinterpret_cast<const char*>(first));
  };
  copy({to.sampledIds, pitch(to.sampledIds, to.logprob), from.sampledIds,
        pitch(from.sampledIds, from.logprob), size_t(samples) * sizeof(int32_t), kNumArrays});
  const int32_t* numTop = job.inputs.numTop;
  if (std::none_of(numTop, numTop + samples, [](int32_t n) { return n > 0; })) return;
  const size_t bytes = size_t(samples) * kMaxLogprobs * sizeof(int32_t);
  copy({to.topIds, bytes, from.topIds, bytes, bytes, 1});
  copy({to.topLogprobs, bytes, from.topLogprobs, bytes, bytes, 1});
}

void StepPlayer::mark(const StepJob& job, int32_t stage) const {
  device_.expect(device_.ops.mark(device_.context, job.slot, stage), "mark");
}

}  // namespace octavo
