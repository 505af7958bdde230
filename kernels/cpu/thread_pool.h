// A fork-join pool for ops that take microseconds: workers spin for a moment after each job, because the next
// op of a forward pass follows at once, and then sleep, so that an idle server uses no processor.
//
// A job is a number of fixed items; which thread computes an item never changes what is computed. Each thread
// has a range of them and takes it in order: weights that lie one after the other are then one stream, which
// the processor's prefetchers follow. With nothing left it takes from the other threads' ranges. The calling
// thread takes part, and waits only for workers that have joined the job: one that is still waking up when the
// items run out (on a busy machine that can take milliseconds) is not waited for.
#pragma once
#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "placement.h"

namespace octavo::cpu {

class ThreadPool {
 public:
  ThreadPool() = default;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  // Starts threads - 1 workers; false if the system refuses one.
  bool start(int threads);
  int threads() const { return threads_; }

  // Calls body(item, thread) for every item in [0, items), thread in [0, threads()). Returns when all are
  // done.
  template <class Body>
  void run(int64_t items, const Body& body) {
    if (threads_ == 1 || items <= 1) {
      for (int64_t i = 0; i < items; ++i) body(i, 0);
      return;
    }
    fork(
        items,
        [](const void* context, int64_t item, int thread) {
          (*static_cast<const Body*>(context))(item, thread);
        },
        &body);
  }

 private:
  using Call = void (*)(const void* context, int64_t item, int thread);
  struct Worker {
    ThreadPool* pool;
    pthread_t handle;
    int thread;
  };
  // One thread's items; whoever takes one moves `next`, perhaps beyond the end.
  struct alignas(64) Range {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
    std::atomic<bool> busy{false};  // the thread is taking items, of whatever range
  };

  void fork(int64_t items, Call call, const void* context);
  void takeItems(int thread);
  void work(int thread);
  void leave();
  uint32_t awaitJob(uint32_t seen);
  void awaitWorkers();
  void fetchBusy(int from, int to);
  static void* enter(void* worker);

  static constexpr int kMaxThreads = 512;
  int threads_ = 1;
  Placement placement_;
  bool spins_ = true;
  Worker workers_[kMaxThreads];

  // The job. Written by the caller while the job is closed and nobody is in it.
  Call call_ = nullptr;
  const void* context_ = nullptr;
  Range ranges_[kMaxThreads];

  static constexpr int kClosed = 1 << 30;
  alignas(64) std::atomic<uint32_t> generation_{0};  // jobs so far
  alignas(64) std::atomic<int> joined_{kClosed};     // workers in the job, plus kClosed when no more may join
  alignas(64) std::atomic<int> sleepers_{0};         // workers that wait for jobReady_, or are about to
  std::atomic<bool> callerSleeps_{false};
  std::atomic<bool> stop_{false};
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t jobReady_ = PTHREAD_COND_INITIALIZER;
  pthread_cond_t jobDone_ = PTHREAD_COND_INITIALIZER;
};

}  // namespace octavo::cpu
