#include "step.h"

#include <algorithm>

#include "check.h"

namespace octavo {

namespace {

// Microseconds since it was made or last asked.
class Stopwatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double elapsed = std::chrono::duration<double, std::micro>(now - last_).count();
    last_ = now;
    return elapsed;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace

StepPlayer::StepPlayer(const Device& device, const RunnerSpec& spec, const ArenaLayout& layout)
    : device_(device),
      sizes_(spec.sizes),
      vocabSize_(spec.program.vocabSize),
      numPromptHost_(spec.sizes.maxNumSeqs, 0) {
  on_ = viewArena(device.alloc(layout.bytes, "step inputs"), layout);
  const size_t history =
      checkedProduct("token history", {sizes_.maxNumSeqs, sizes_.maxModelLen, int64_t(sizeof(int32_t))});
  history_ = static_cast<int32_t*>(device.alloc(history, "token history"));
  const size_t prompt = static_cast<size_t>(sizes_.maxNumSeqs) * sizeof(int32_t);
  numPrompt_ = static_cast<int32_t*>(device.alloc(prompt, "prompt lengths"));
  workspaceBytes_ = layout.bytes + history + prompt;
  sampled_.reserve(sizes_.maxNumSamples);
}

template <typename T>
void StepPlayer::up(T* target, const T* source, int64_t first, int64_t count) const {
  if (count <= 0) return;
  device_.expect(
      device_.ops.upload(device_.context, target + first, source + first, size_t(count) * sizeof(T)),
      "upload");
}

template <typename T>
void StepPlayer::down(T* target, const T* source, int64_t count) const {
  device_.expect(device_.ops.download(device_.context, target, source, size_t(count) * sizeof(T)),
                 "download");
}

bool StepPlayer::run(const Playback& playback, StepJob& job) {
  double timings[kNumTimings] = {};
  Stopwatch total, watch;
  applyHistory(job);
  resolveIds(job);
  copyIn(job);
  const StepInputs step{job.counts.numTokens, job.counts.numSeqs, on_.inputIds,    on_.positions,
                        on_.slotMapping,      on_.queryStart,     on_.contextLens, on_.blockTables};
  timings[kCopyIn] = watch.lap();
  playback.playBody(step);
  timings[kForward] = watch.lap();
  for (int32_t first = 0; first == 0 || first < job.counts.numSamples; first += sizes_.logitsRows) {
    const int32_t count = std::min(sizes_.logitsRows, job.counts.numSamples - first);
    if (count > 0) playback.playHead(step, on_.sampleRows + first, count);
    timings[kHead] += watch.lap();
    if (first == 0) {
      // The logits of the first slice are computed while masks are still being made.
      device_.expect(device_.ops.sync(device_.context), "sync");
      if (!job.waitForSampling()) return false;
      watch.lap();  // waiting is nobody's work
      copyInSampling(job);
      timings[kCopyIn] += watch.lap();
    }
    if (count > 0) sampleSlice(playback, job, first, count);
    timings[kSample] += watch.lap();
  }
  copyOut(job);
  timings[kCopyOut] = watch.lap();
  timings[kTotal] = total.lap();
  std::copy(timings, timings + kNumTimings, job.outputs.timings);
  return true;
}

void StepPlayer::applyHistory(const StepJob& job) {
  for (const HistoryUpdate& update : job.history) {
    int32_t* row = history_ + int64_t(update.seqSlot) * sizes_.maxModelLen;
    up(row, update.tokens.data(), 0, int64_t(update.tokens.size()));
  }
}

// A negative id -1 - r is the token sampled in row r of the previous launch; the launch was only accepted for
// rows that it had.
void StepPlayer::resolveIds(StepJob& job) const {
  int32_t* ids = job.inputs.inputIds;
  for (int32_t row = 0; row < job.counts.numTokens; row++) {
    if (ids[row] >= 0) continue;
    const size_t previous = static_cast<size_t>(-1 - ids[row]);
    if (previous >= sampled_.size())
      fail(code::kDevice, "inputIds[", row, "]: row ", previous, " was never sampled");
    ids[row] = sampled_[previous];
  }
}

void StepPlayer::copyIn(StepJob& job) {
  const ArenaView& in = job.inputs;
  const int32_t tokens = job.counts.numTokens, seqs = job.counts.numSeqs, samples = job.counts.numSamples;
  up(on_.inputIds, in.inputIds, 0, tokens);
  up(on_.positions, in.positions, 0, tokens);
  up(on_.slotMapping, in.slotMapping, 0, tokens);
  up(on_.queryStart, in.queryStart, 0, seqs + 1);
  up(on_.contextLens, in.contextLens, 0, seqs);
  up(on_.sampleRows, in.sampleRows, 0, samples);
  up(on_.rowSlot, in.rowSlot, 0, samples);
  up(on_.rowPosition, in.rowPosition, 0, samples);
  for (int32_t seq = 0; seq < seqs; seq++) {
    const int32_t blocks = (in.contextLens[seq] + kBlockSize - 1) / kBlockSize;
    up(on_.blockTables, in.blockTables, int64_t(seq) * sizes_.maxBlocksPerSeq, blocks);
    // A sequence's rows are at consecutive positions, so its new history is one run.
    const int32_t start = in.queryStart[seq], count = in.queryStart[seq + 1] - start, slot = in.seqSlot[seq];
    up(history_ + int64_t(slot) * sizes_.maxModelLen + in.positions[start], in.inputIds + start, 0, count);
    numPromptHost_[slot] = in.numPromptTokens[seq];
  }
  up(numPrompt_, numPromptHost_.data(), 0, sizes_.maxNumSeqs);
}

void StepPlayer::copyInSampling(const StepJob& job) {
  const ArenaView& in = job.inputs;
  const int32_t samples = job.counts.numSamples;
  if (samples == 0) return;
  for (auto array : {&ArenaView::temperature, &ArenaView::topP, &ArenaView::minP, &ArenaView::repetition,
                     &ArenaView::presence, &ArenaView::frequency})
    up(on_.*array, in.*array, 0, samples);
  for (auto array : {&ArenaView::topK, &ArenaView::seedLo, &ArenaView::seedHi, &ArenaView::targetId,
                     &ArenaView::numTop, &ArenaView::maskRow})
    up(on_.*array, in.*array, 0, samples);
  up(on_.biasStart, in.biasStart, 0, samples + 1);
  const int32_t first = in.biasStart[0], biases = in.biasStart[samples] - first;
  up(on_.biasId, in.biasId, first, biases);
  up(on_.biasValue, in.biasValue, first, biases);
  const int64_t words = maskWords(vocabSize_);
  for (int32_t r = 0; r < samples; r++)
    if (in.maskRow[r] >= 0) up(on_.masks, in.masks, in.maskRow[r] * words, words);
}

void StepPlayer::sampleSlice(const Playback& playback, StepJob& job, int32_t first, int32_t count) {
  SampleArgs args{};
  args.logits = playback.logits();
  args.stride = vocabSize_;
  args.rows = count;
  args.vocab = vocabSize_;
  args.rowSlot = on_.rowSlot + first;
  args.rowPosition = on_.rowPosition + first;
  args.temperature = on_.temperature + first;
  args.topP = on_.topP + first;
  args.minP = on_.minP + first;
  args.repetition = on_.repetition + first;
  args.presence = on_.presence + first;
  args.frequency = on_.frequency + first;
  args.topK = on_.topK + first;
  args.seedLo = on_.seedLo + first;
  args.seedHi = on_.seedHi + first;
  args.targetId = on_.targetId + first;
  args.numTop = on_.numTop + first;
  args.biasStart = on_.biasStart + first;
  args.biasId = on_.biasId;
  args.biasValue = on_.biasValue;
  args.maskRow = on_.maskRow + first;
  args.masks = on_.masks;
  args.history = history_;
  args.numPrompt = numPrompt_;
  args.maxContext = sizes_.maxModelLen;
  args.sampledIds = on_.sampledIds + first;
  args.logprob = on_.logprob + first;
  args.targetLogprob = on_.targetLogprob + first;
  args.rank = on_.rank + first;
  args.targetRank = on_.targetRank + first;
  args.topIds = on_.topIds + int64_t(first) * kMaxLogprobs;
  args.topLogprobs = on_.topLogprobs + int64_t(first) * kMaxLogprobs;
  device_.expect(device_.ops.sample(device_.context, &args), "sample");
  if (job.outputs.logits)
    down(job.outputs.logits + int64_t(first) * vocabSize_, playback.logits(), int64_t(count) * vocabSize_);
}

void StepPlayer::copyOut(StepJob& job) {
  const int32_t samples = job.counts.numSamples;
  sampled_.resize(samples);
  down(sampled_.data(), on_.sampledIds, samples);
  down(job.outputs.logprob, on_.logprob, samples);
  down(job.outputs.rank, on_.rank, samples);
  down(job.outputs.targetLogprob, on_.targetLogprob, samples);
  down(job.outputs.targetRank, on_.targetRank, samples);
  const int32_t* numTop = job.inputs.numTop;
  if (std::any_of(numTop, numTop + samples, [](int32_t n) { return n > 0; })) {
    down(job.outputs.topIds, on_.topIds, int64_t(samples) * kMaxLogprobs);
    down(job.outputs.topLogprobs, on_.topLogprobs, int64_t(samples) * kMaxLogprobs);
  }
  device_.expect(device_.ops.sync(device_.context), "sync");
  // These ids index the embedding of the next step: a backend's mistake must end here.
  for (int32_t r = 0; r < samples; r++)
    if (sampled_[r] < 0 || sampled_[r] >= vocabSize_)
      fail(code::kDevice, "sampledIds[", r, "]: expected an id in [0, ", vocabSize_ - 1, "], got ",
           sampled_[r]);
  std::copy(sampled_.begin(), sampled_.end(), job.outputs.sampledIds);
}

}  // namespace octavo
