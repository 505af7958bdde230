#include "runner.h"

#include <algorithm>

#include "check.h"
#include "shapes.h"

namespace octavo {

namespace {

constexpr int32_t kMaxTokens = 1 << 24;
constexpr int32_t kMaxSeqs = 1 << 16;
constexpr int32_t kMaxSamples = 1 << 20;  // kMaxSamples * kMaxBiasPerRow stays within int32
constexpr int32_t kMaxModelLen = 1 << 30;

RunnerSpec validated(RunnerSpec spec) {
  checkRange(spec.threads, 0, kMaxThreads, "spec.threads");
  validateSizes(spec.sizes);
  validateProgram(spec.program);
  for (size_t i = 0; i < spec.graphRows.size(); i++)
    checkRange(spec.graphRows[i], i ? spec.graphRows[i - 1] + 1 : 1,
               std::min({spec.sizes.maxNumTokens, spec.sizes.maxNumSeqs, spec.sizes.logitsRows}),
               concat("spec.graphRows[", i, "]"));
  const int64_t files = static_cast<int64_t>(spec.files.size());
  auto checkFile = [&](const TensorSource& tensor) {
    if (tensor.present)
      checkRange(tensor.file, -1, files - 1, concat("spec.program: file of tensor ", tensor.name));
  };
  for (const DensePlan& plan : spec.program.dense) checkFile(plan.source);
  for (const LinearPlan& plan : spec.program.linears)
    for (const LinearPartPlan& part : plan.parts)
      for (const TensorSource* tensor : {&part.weight, &part.scales, &part.zeros, &part.bias})
        checkFile(*tensor);
  return spec;
}

template <typename T>
void copyRange(T* target, const T* source, int64_t first, int64_t count) {
  std::copy(source + first, source + first + count, target + first);
}

}  // namespace

void validateSizes(const RunnerSizes& sizes) {
  checkRange(sizes.maxNumTokens, 1, kMaxTokens, "spec.sizes.maxNumTokens");
  checkRange(sizes.maxNumSeqs, 1, kMaxSeqs, "spec.sizes.maxNumSeqs");
  checkRange(sizes.maxNumSamples, 1, kMaxSamples, "spec.sizes.maxNumSamples");
  checkRange(sizes.maxModelLen, 1, kMaxModelLen, "spec.sizes.maxModelLen");
  const int32_t blocks = (sizes.maxModelLen + kBlockSize - 1) / kBlockSize;
  checkRange(sizes.maxBlocksPerSeq, blocks, blocks, "spec.sizes.maxBlocksPerSeq");
  checkRange(sizes.numBlocks, 1, std::numeric_limits<int32_t>::max() / kBlockSize, "spec.sizes.numBlocks");
  checkRange(sizes.logitsRows, 1, sizes.maxNumSamples, "spec.sizes.logitsRows");
}

ArenaMemory::ArenaMemory(std::shared_ptr<Device> device, size_t bytes)
    : device_(std::move(device)), bytes_(bytes) {
  data_ = device_->ops.allocHost(device_->context, bytes);
  if (!data_) fail(code::kMemory, "arena: expected ", bytes, " bytes of host memory, got none");
}

void ArenaMemory::release() {
  if (data_) device_->ops.releaseHost(device_->context, data_);
  data_ = nullptr;
  device_.reset();
}

Runner::Runner(RunnerSpec spec)
    : spec_(validated(std::move(spec))),
      ops_(findBackend(spec_.device)),
      layout_(makeLayout(spec_.sizes, spec_.program.vocabSize, spec_.keepLogits)),
      privateLayout_(makeLayout(spec_.sizes, spec_.program.vocabSize, false)),
      checker_(spec_.sizes, spec_.program.vocabSize) {
  Shapes(spec_.program, spec_.sizes, 0).choose(ops_, spec_.tiles);  // only to check them
}

const char* Runner::state() const {
  switch (lifecycle_) {
    case Lifecycle::Open:
      return "open";
    case Lifecycle::Failed:
      return "failed";
    case Lifecycle::Closed:
      return "closed";
    case Lifecycle::Ready:
      break;
  }
  return slots_[0].inFlight || slots_[1].inFlight ? "busy" : "ready";
}

void Runner::failState(const char* method, const std::string& expected) const {
  fail(code::kState, method, ": expected ", expected, ", got a runner that is ",
       loading_ ? "loading" : state());
}

void Runner::require(bool condition, const char* method, const char* expected) const {
  if (!condition) failState(method, expected);
}

Runner::Slot& Runner::slotAt(int32_t slot, const char* method) {
  checkRange(slot, 0, kNumSlots - 1, concat(method, ": slot"));
  return slots_[slot];
}

std::shared_ptr<Device> Runner::openDevice() const {
  Shapes shapes(spec_.program, spec_.sizes, spec_.threads,
                {spec_.int8Activations, spec_.useMatmulLibrary});
  shapes.choose(ops_, spec_.tiles);
  char error[256] = "";
  Context* context = ops_.open(&shapes.options(), error, sizeof(error));
  if (!context) fail(code::kDevice, "device ", spec_.device, " did not open: ", error);
  auto device = std::make_shared<Device>(ops_, context);
  if (ops_.setKvDType(context, spec_.kvCacheDtype) != 0)
    failArgument("spec.kvCacheDtype", concat("a type that ", ops_.name, " has kernels for"),
                 device->lastError());
  return device;
}

MemoryUse Runner::load(const Progress& progress) {
  require(lifecycle_ == Lifecycle::Open && !loading_, "load", "an open runner");
  loading_ = true;
  struct Reset {
    bool& flag;
    ~Reset() { flag = false; }
  } reset{loading_};
  Loaded loaded;
  loaded.device = openDevice();
  Slot slots[kNumSlots];
  for (Slot& slot : slots) {
    slot.memory = std::make_shared<ArenaMemory>(loaded.device, layout_.bytes);
    slot.privateCopy = std::make_unique<ArenaMemory>(loaded.device, privateLayout_.bytes);
    slot.view = viewArena(slot.memory->data(), layout_);
    slot.copy = viewArena(slot.privateCopy->data(), privateLayout_);
  }
  loaded.step = std::make_unique<StepPlayer>(*loaded.device, spec_, privateLayout_);
  loaded.playback = std::make_unique<Playback>(*loaded.device, spec_);
  LoadedWeights weights =
      loadWeights(*loaded.device, spec_.program, spec_.files, spec_.dummySeed, progress);
  loaded.device->expect(ops_.finishLoading(loaded.device->context), "load");
  loaded.playback->bind(spec_.program, std::move(weights));
  GraphUse graphs;
  if (ops_.beginCapture) graphs = loaded.step->capture(*loaded.playback, spec_.graphRows);
  // Of a device's own memory; the arenas are the host's.
  const size_t own = ops_.describe ? scratchBytes(ops_, spec_.program, spec_.sizes, spec_.useMatmulLibrary)
                                   : kNumSlots * (layout_.bytes + privateLayout_.bytes);
  const MemoryUse use{weightBytes(ops_, spec_.program), loaded.playback->kvCacheBytes(),
                      loaded.playback->workspaceBytes() + loaded.step->workspaceBytes() + own, graphs};
  // The last thing that can fail; the thread looks at nothing before the first launch.
  thread_ = std::thread([this] { computeLoop(); });
  for (int i = 0; i < kNumSlots; i++) slots_[i] = std::move(slots[i]);
  loaded_ = std::move(loaded);
  lifecycle_ = Lifecycle::Ready;
  return use;
}

std::shared_ptr<ArenaMemory> Runner::arena(int32_t slot) const {
  checkRange(slot, 0, kNumSlots - 1, "arena: slot");
  require(lifecycle_ == Lifecycle::Ready || lifecycle_ == Lifecycle::Failed, "arena", "a loaded runner");
  return slots_[slot].memory;
}

void Runner::setHistory(int32_t slot, int32_t seqSlot, std::vector<int32_t> tokens) {
  Slot& target = slotAt(slot, "setHistory");
  require(lifecycle_ == Lifecycle::Ready, "setHistory", "a runner that is ready or busy");
  checker_.checkHistory(seqSlot, tokens.data(), tokens.size());
  // The latest history of a sequence slot is the one that counts; this also bounds the list.
  for (HistoryUpdate& update : target.pendingHistory)
    if (update.seqSlot == seqSlot) return void(update.tokens = std::move(tokens));
  target.pendingHistory.push_back({seqSlot, std::move(tokens)});
}

void Runner::launch(int32_t index, const BatchCounts& counts, bool deferSampling, bool onCollect) {
  Slot& slot = slotAt(index, "launch");
  require(lifecycle_ == Lifecycle::Ready, "launch", "a runner that is ready or busy");
  require(!slot.inFlight, "launch", "the slot's previous launch to be collected");
  checker_.checkBatch(slot.view, counts, previousSamples_);
  if (!deferSampling) checker_.checkSampling(slot.view, counts.numSamples);
  copyBatch(slot, counts);
  if (!deferSampling) copySampling(slot, counts.numSamples);
  slot.job.slot = index;
  slot.job.counts = counts;
  slot.job.inputs = slot.copy;
  slot.job.outputs = slot.view;
  slot.job.samplingReady = !deferSampling;
  slot.job.history = std::move(slot.pendingHistory);
  slot.job.waitForSampling = [this, &slot] { return waitForSampling(slot); };
  slot.pendingHistory.clear();
  slot.inFlight = true;
  slot.deferred = deferSampling;
  slot.number = ++launches_;
  previousSamples_ = counts.numSamples;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    slot.onCollect = onCollect;
    slot.samplingReady = !deferSampling;
    slot.enqueued = false;
    slot.error.clear();
    queue_[queued_++] = &slot;
  }
  if (!onCollect) changed_.notify_all();
}

void Runner::sample(int32_t index) {
  Slot& slot = slotAt(index, "sample");
  require(lifecycle_ == Lifecycle::Ready, "sample", "a runner that is busy");
  require(slot.inFlight && slot.deferred, "sample",
          "a launch of this slot with deferSampling, not sampled yet");
  checker_.checkSampling(slot.view, slot.job.counts.numSamples);
  copySampling(slot, slot.job.counts.numSamples);
  slot.deferred = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    slot.samplingReady = true;
  }
  changed_.notify_all();
}

void Runner::collect(int32_t index) {
  Slot& slot = slotAt(index, "collect");
  require(lifecycle_ == Lifecycle::Ready || lifecycle_ == Lifecycle::Failed, "collect",
          "a runner that is busy");
  require(slot.inFlight, "collect", "a launch of this slot");
  // Launches run in order, so one that waits for its masks holds up this one too: waiting would never end.
  for (const Slot& other : slots_)
    require(!(other.inFlight && other.deferred && other.number <= slot.number), "collect",
            "sample() to have followed every launch with deferSampling up to this one");
  computeUpTo(slot);
  slot.inFlight = false;
  if (failure_.empty()) failure_ = slot.error;
  if (failure_.empty()) {
    try {
      return loaded_.step->finish(slot.job);
    } catch (const Error& error) {
      failure_ = error.what();
    }
  }
  lifecycle_ = Lifecycle::Failed;
  throw Error(code::kDevice, failure_);
}

void Runner::close() {
  if (loading_) failState("close", "no load to be running");
  stop();
}

void Runner::stop() {
  if (lifecycle_ == Lifecycle::Closed) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  lifecycle_ = Lifecycle::Closed;
  // The device may still be writing into the arenas. What it has to say no longer matters.
  if (loaded_.device) ops_.sync(loaded_.device->context);
  for (Slot& slot : slots_) slot = Slot();
  loaded_.playback.reset();
  loaded_.step.reset();
  loaded_.device.reset();
}

void Runner::copyBatch(Slot& slot, const BatchCounts& counts) const {
  const ArenaView& from = slot.view;
  ArenaView& to = slot.copy;
  for (auto array : {&ArenaView::inputIds, &ArenaView::positions, &ArenaView::slotMapping})
    copyRange(to.*array, from.*array, 0, counts.numTokens);
  for (auto array : {&ArenaView::contextLens, &ArenaView::seqSlot, &ArenaView::numPromptTokens})
    copyRange(to.*array, from.*array, 0, counts.numSeqs);
  copyRange(to.queryStart, from.queryStart, 0, counts.numSeqs + 1);
  for (auto array : {&ArenaView::sampleRows, &ArenaView::rowSlot, &ArenaView::rowPosition})
    copyRange(to.*array, from.*array, 0, counts.numSamples);
  for (int32_t seq = 0; seq < counts.numSeqs; seq++)
    copyRange(to.blockTables, from.blockTables, int64_t(seq) * spec_.sizes.maxBlocksPerSeq,
              (from.contextLens[seq] + kBlockSize - 1) / kBlockSize);
}

void Runner::copySampling(Slot& slot, int32_t numSamples) const {
  if (numSamples == 0) return;
  const ArenaView& from = slot.view;
  ArenaView& to = slot.copy;
  for (auto array : {&ArenaView::temperature, &ArenaView::topP, &ArenaView::minP, &ArenaView::repetition,
                     &ArenaView::presence, &ArenaView::frequency})
    copyRange(to.*array, from.*array, 0, numSamples);
  for (auto array : {&ArenaView::topK, &ArenaView::seedLo, &ArenaView::seedHi, &ArenaView::targetId,
                     &ArenaView::numTop, &ArenaView::maskRow})
    copyRange(to.*array, from.*array, 0, numSamples);
  copyRange(to.biasStart, from.biasStart, 0, numSamples + 1);
  const int32_t first = from.biasStart[0], biases = from.biasStart[numSamples] - first;
  copyRange(to.biasId, from.biasId, first, biases);
  copyRange(to.biasValue, from.biasValue, first, biases);
  const int64_t words = maskWords(spec_.program.vocabSize);
  for (int32_t r = 0; r < numSamples; r++)
    if (from.maskRow[r] >= 0) copyRange(to.masks, from.masks, from.maskRow[r] * words, words);
}

// The launch whose turn it is; mutex_ is held.
Runner::Slot* Runner::takeNext() {
  Slot* slot = queue_[0];
  std::copy(queue_.begin() + 1, queue_.begin() + queued_, queue_.begin());
  queued_--;
  computing_ = true;
  return slot;
}

void Runner::computeLoop() {
  for (;;) {
    Slot* slot = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock,
                    [&] { return stopping_ || (!computing_ && queued_ > 0 && !queue_[0]->onCollect); });
      if (stopping_) return;
      slot = takeNext();
    }
    computeStep(*slot);
  }
}

// Waits for the thread, and computes what is left to the caller: also what is queued behind `slot`, for a
// device that works on while its results are awaited.
void Runner::computeUpTo(const Slot& slot) {
  for (;;) {
    Slot* next = nullptr;
    {
      // One behind `slot` may still wait for sample(), which this thread would have to call.
      const auto callersTurn = [&] {
        return !computing_ && queued_ > 0 && queue_[0]->onCollect && queue_[0]->samplingReady;
      };
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [&] { return slot.enqueued || callersTurn(); });
      if (!callersTurn()) return;
      next = takeNext();
    }
    computeStep(*next);
  }
}

// Once the device has failed, what was launched after it fails for the same reason, without touching the
// device.
void Runner::computeStep(Slot& slot) {
  if (deviceError_.empty()) {
    try {
      if (!loaded_.step->enqueue(*loaded_.playback, slot.job)) deviceError_ = "the runner was closed";
    } catch (const std::exception& error) {
      deviceError_ = error.what();
      if (deviceError_.empty()) deviceError_ = "no reason given";
    }
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    slot.error = deviceError_;
    slot.enqueued = true;
    computing_ = false;
  }
  changed_.notify_all();
}

bool Runner::waitForSampling(Slot& slot) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return stopping_ || slot.samplingReady; });
  return slot.samplingReady;
}

}  // namespace octavo
