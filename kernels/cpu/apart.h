// Keeps the threads of a pool on processors of their own while others want them too.
//
// A thread that wakes while no processor is free is often put on the one of the thread that woke it. Both
// then take turns there, and somebody else's thread has the other processor to itself, whatever its priority,
// until the scheduler balances (Linux lets tens of milliseconds go by while every processor is busy): a job
// takes as long as on one thread. Pinning threads would prevent it, and would keep them from processors that
// become free.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>

namespace octavo::cpu {

class Apart {
 public:
  // For `threads` threads, of which the first is whoever calls. With more threads than processors nothing is
  // done.
  void start(int threads);

  // `thread` begins to work: where a thread before it was last seen on the same processor, it moves to
  // another one. Linux only.
  void place(int thread);

 private:
  static constexpr int kMaxThreads = 512;
  static constexpr auto kPause = std::chrono::milliseconds(1);  // between two moves of a thread
  using Time = std::chrono::steady_clock::time_point;

  bool collides(int thread, uint16_t processor) const;
  void move(int thread);

  bool on_ = false;
  int threads_ = 1;
  // Written on change only: all read them for every job.
  alignas(64) std::atomic<uint16_t> processors_[kMaxThreads];
  Time moved_[kMaxThreads] = {};
};

}  // namespace octavo::cpu
