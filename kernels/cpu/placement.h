// Keeps the threads of a pool at work while others want their processors too.
//
// A thread that wakes while no processor is free is often put on the one of the thread that woke it. Both
// then take turns there, and somebody else's thread has the other processor to itself, whatever its priority,
// until the scheduler balances (Linux lets tens of milliseconds go by while every processor is busy): a job
// takes as long as on one thread. So threads that meet part.
//
// A thread that has to give its processor up in the middle of its work gets it back after a few milliseconds,
// while those that wait for it leave theirs idle: the scheduler doesn't move it over for so short a time. So
// who waits fetches it.
//
// Pinning threads would prevent the first, make the second worse, and keep them from processors that become
// free.
#pragma once
#include <time.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace octavo::cpu {

class Placement {
 public:
  // For `threads` threads, of which the first is whoever calls. With more threads than processors nothing is
  // done.
  void start(int threads);

  // `thread`, which calls this, begins to work: where a thread before it was last seen on the same processor,
  // it moves to another one. Linux only.
  void place(int thread);

  // The calling thread is about to sleep until `thread` has done its work: unless that is running, it comes
  // to this processor. Linux only. True: it was not running.
  bool fetch(int thread);

 private:
  static constexpr int kMaxThreads = 512;
  static constexpr auto kPause = std::chrono::milliseconds(1);  // between two moves of a thread
  using Time = std::chrono::steady_clock::time_point;

  struct alignas(64) Thread {
    // Written on change only: all read them for every job.
    std::atomic<uint16_t> processor;
    std::atomic<int> id{0};            // of the system; 0: not known yet
    std::atomic<clockid_t> clock{0};   // of its processor time
    std::atomic<bool> fetched{false};  // somebody is looking after it
    Time moved{};
  };

  bool collides(int thread, uint16_t processor) const;
  void move(int thread);

  bool on_ = false;
  int count_ = 1;
  Thread threads_[kMaxThreads];
};

}  // namespace octavo::cpu
