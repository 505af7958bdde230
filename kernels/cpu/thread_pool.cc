// See thread_pool.h.
#include "thread_pool.h"

#include <chrono>

#include "cpu.h"

namespace octavo::cpu {
namespace {

constexpr auto kSpin = std::chrono::microseconds(40);

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `ready` or for kSpin, if at all. The clock is read now and then only: it costs more than a look
// at the flag.
template <class Ready>
bool spin(bool spins, const Ready& ready) {
  if (!spins) return ready();
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

}  // namespace

bool ThreadPool::start(int threads) {
  if (threads > kMaxThreads) threads = kMaxThreads;
  for (int i = 1; i < threads; ++i) {
    workers_[i] = {this, {}, i};
    if (pthread_create(&workers_[i].handle, nullptr, enter, &workers_[i]) != 0) return false;
    threads_ = i + 1;
  }
  placement_.start(threads_);
  // Where threads have to take turns, one that spins keeps those from working that it waits for.
  spins_ = threads_ <= availableProcessors();
  return true;
}

ThreadPool::~ThreadPool() {
  pthread_mutex_lock(&mutex_);
  stop_ = true;
  generation_.fetch_add(1);
  pthread_cond_broadcast(&jobReady_);
  pthread_mutex_unlock(&mutex_);
  for (int i = 1; i < threads_; ++i) pthread_join(workers_[i].handle, nullptr);
  pthread_mutex_destroy(&mutex_);
  pthread_cond_destroy(&jobReady_);
  pthread_cond_destroy(&jobDone_);
}

void ThreadPool::fork(int64_t items, Call call, const void* context) {
  call_ = call;
  context_ = context;
  for (int64_t t = 0; t < threads_; ++t) {
    ranges_[t].next.store(items * t / threads_, std::memory_order_relaxed);
    ranges_[t].end = items * (t + 1) / threads_;
  }
  placement_.place(0);
  joined_.fetch_and(~kClosed);  // publishes the job to whoever joins
  // Sequentially consistent against sleepers_: a worker sees this generation before it sleeps, or is seen
  // here.
  generation_.fetch_add(1);
  if (sleepers_.load() > 0) {
    pthread_mutex_lock(&mutex_);
    pthread_cond_broadcast(&jobReady_);
    pthread_mutex_unlock(&mutex_);
  }
  takeItems(0);
  joined_.fetch_or(kClosed);
  awaitWorkers();
}

// The thread's own range, then what is left of the others', from the next thread's on.
void ThreadPool::takeItems(int thread) {
  ranges_[thread].busy.store(true, std::memory_order_relaxed);
  for (int i = 0; i < threads_; ++i) {
    Range& range = ranges_[(thread + i) % threads_];
    for (;;) {
      const int64_t item = range.next.fetch_add(1, std::memory_order_relaxed);
      if (item >= range.end) break;
      call_(context_, item, thread);
    }
  }
  ranges_[thread].busy.store(false, std::memory_order_relaxed);
}

// The calling thread is about to sleep until these are done: its processor is for one of them that has none.
void ThreadPool::fetchBusy(int from, int to) {
  for (int t = from; t < to; ++t)
    if (ranges_[t].busy.load(std::memory_order_relaxed) && placement_.fetch(t)) return;
}

void* ThreadPool::enter(void* worker) {
  auto* self = static_cast<Worker*>(worker);
  self->pool->work(self->thread);
  return nullptr;
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    seen = awaitJob(seen);
    if (stop_) return;
    placement_.place(thread);
    if (!(joined_.fetch_add(1) & kClosed)) takeItems(thread);
    leave();
  }
}

// The last one out of a closed job wakes a caller that sleeps.
void ThreadPool::leave() {
  if (joined_.fetch_sub(1) == kClosed + 1 && callerSleeps_.load()) {
    pthread_mutex_lock(&mutex_);
    pthread_cond_signal(&jobDone_);
    pthread_mutex_unlock(&mutex_);
  }
}

// The latest generation, once it is not `seen`.
uint32_t ThreadPool::awaitJob(uint32_t seen) {
  if (!spin(spins_, [&] { return generation_.load(std::memory_order_acquire) != seen; })) {
    fetchBusy(0, 1);
    sleepers_.fetch_add(1);
    pthread_mutex_lock(&mutex_);
    while (generation_.load() == seen) pthread_cond_wait(&jobReady_, &mutex_);
    pthread_mutex_unlock(&mutex_);
    sleepers_.fetch_sub(1);
  }
  return generation_.load();
}

void ThreadPool::awaitWorkers() {
  const auto done = [&] { return joined_.load() == kClosed; };
  if (spin(spins_, done)) return;
  fetchBusy(1, threads_);
  callerSleeps_ = true;
  pthread_mutex_lock(&mutex_);
  while (!done()) pthread_cond_wait(&jobDone_, &mutex_);
  pthread_mutex_unlock(&mutex_);
  callerSleeps_ = false;
}

}  // namespace octavo::cpu
