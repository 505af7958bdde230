// The runner: states, queueing and the compute thread around a step (step.h). Knows nothing of JavaScript.
//
//   open --load--> ready <--launch / collect--> busy          any --close--> closed
//                    \---- collect of a launch that failed ----> failed
//
// One caller's thread; launches are validated on it and computed, or handed to the device, in order on a
// thread of the runner's own. collect waits for the device. At most two launches, one per slot, are
// uncollected.
//
// onCollect: the launch is left to the caller's thread, which computes it when it collects it or one behind it.
// Where the caller has nothing to do in the meantime that saves waking two threads: of a step of a tenth of a
// millisecond half as much again.
//
// deferSampling: the body and the logits of the first logitsRows sample rows are computed at once; the step
// then waits for sample(slot), and the remaining slices, if there are any, follow it. So any number of sample
// rows may be deferred.
#pragma once
#include <array>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "arena.h"
#include "backend.h"
#include "batch_check.h"
#include "playback.h"
#include "spec.h"
#include "step.h"
#include "weights.h"

namespace octavo {

// Host memory of one arena. Shared by the runner and whoever shows it to JavaScript; keeps its device open.
class ArenaMemory {
 public:
  ArenaMemory(std::shared_ptr<Device> device, size_t bytes);
  ~ArenaMemory() { release(); }
  ArenaMemory(const ArenaMemory&) = delete;
  ArenaMemory& operator=(const ArenaMemory&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  // Frees at once. Only when nobody can reach the memory any more.
  void release();

 private:
  std::shared_ptr<Device> device_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

class Runner {
 public:
  // Validates `spec` (files are opened by load). Throws ERR_OCTAVO_ARGUMENT.
  explicit Runner(RunnerSpec spec);
  ~Runner() { stop(); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  const char* state() const;  // "open", "ready", "busy", "failed", "closed"
  const ArenaLayout& layout() const { return layout_; }

  // Each method throws ERR_OCTAVO_STATE in a state that it does not belong to, and then changes nothing; a
  // load, launch or sample that throws leaves the runner as it was.
  MemoryUse load(const Progress& progress);
  std::shared_ptr<ArenaMemory> arena(int32_t slot) const;
  void setHistory(int32_t slot, int32_t seqSlot, std::vector<int32_t> tokens);
  void launch(int32_t slot, const BatchCounts& counts, bool deferSampling, bool onCollect = false);
  void sample(int32_t slot);
  // Throws ERR_OCTAVO_DEVICE when the launch failed; the runner is failed from then on.
  void collect(int32_t slot);
  // Waits for the step being computed, drops what is queued behind it, frees everything. Idempotent.
  void close();

 private:
  enum class Lifecycle { Open, Ready, Failed, Closed };

  struct Slot {
    std::shared_ptr<ArenaMemory> memory;       // what JavaScript sees
    std::unique_ptr<ArenaMemory> privateCopy;  // inputs of the launch, out of reach
    ArenaView view, copy;
    std::vector<HistoryUpdate> pendingHistory;
    // Caller's thread.
    bool inFlight = false;  // launched and not collected
    bool deferred = false;  // ... with deferSampling, and sample() has not followed
    uint64_t number = 0;    // of the launch
    StepJob job;
    // Guarded by mutex_.
    bool onCollect = false;
    bool samplingReady = false, enqueued = false;
    std::string error;  // of the launch on its way to the device
  };

  // Everything made by load().
  struct Loaded {
    std::shared_ptr<Device> device;
    std::unique_ptr<Playback> playback;
    std::unique_ptr<StepPlayer> step;
  };

  [[noreturn]] void failState(const char* method, const std::string& expected) const;
  void require(bool condition, const char* method, const char* expected) const;
  Slot& slotAt(int32_t slot, const char* method);
  void stop();
  std::shared_ptr<Device> openDevice() const;
  void copyBatch(Slot& slot, const BatchCounts& counts) const;
  void copySampling(Slot& slot, int32_t numSamples) const;
  void computeLoop();
  Slot* takeNext();
  void computeUpTo(const Slot& slot);
  void computeStep(Slot& slot);
  bool waitForSampling(Slot& slot);

  const RunnerSpec spec_;
  const Ops& ops_;
  const ArenaLayout layout_, privateLayout_;
  BatchChecker checker_;
  Lifecycle lifecycle_ = Lifecycle::Open;
  bool loading_ = false;  // load() is calling back
  Loaded loaded_;
  Slot slots_[kNumSlots];
  int32_t previousSamples_ = 0;  // sampled rows of the latest launch
  uint64_t launches_ = 0;

  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Launched and not yet taken up, first come first; guarded by mutex_.
  std::array<Slot*, kNumSlots> queue_{};
  int32_t queued_ = 0;
  bool computing_ = false;   // one was taken up and is not on its way yet; guarded by mutex_
  bool stopping_ = false;    // guarded by mutex_
  std::string deviceError_;  // of whoever computes: first failure; later launches share it
  std::string failure_;      // caller's thread: why the runner has failed
};

}  // namespace octavo
