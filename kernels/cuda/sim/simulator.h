// A CUDA grid on the host: a fiber per thread, warp collectives that run when the last lane arrives,
// barriers, asynchronous copies that may land as late as the memory model allows.
//
//   launch()  ->  resident blocks  ->  warps in seeded order  ->  one lane runs until it must wait
//                                                                   |
//       a collective (mma, ldmatrix, shuffle, ...):  waits for the other 31 lanes, the last one computes for
//       all a barrier:                                   waits for the block
//
// What it finds: dropped barriers and waits (shared memory starts as NaN, copies land late, warps and blocks
// run in any order), collectives and barriers that not all threads reach, copies and matrix loads that are
// misaligned or outside the block's shared memory, writes outside it, deadlocks (named by operation, file and
// line), bank conflicts of ldmatrix. What it can't: speed, weak memory ordering between blocks, a missing
// syncWarp beside a collective (a warp's lanes only part ways at collectives), the rounding inside a tensor
// core.
#pragma once
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"

namespace octavo::sim {

constexpr int kWarpSize = 32;
constexpr int kGuardBytes = 1024;  // before and after a block's shared memory, checked when the block ends

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

struct Options {
  bool lazyCopies =
      true;  // cp.async lands at the wait that covers it (destination is NaN until then), or at once
  bool poison = true;      // shared memory starts as NaN (all ones)
  uint32_t seed = 0;       // order of blocks, warps and lanes; 0 is ascending
  int residentBlocks = 1;  // blocks that run interleaved; 0: all of them
};

struct Counters {
  uint64_t mma = 0, ldmatrix = 0, bankConflicts = 0, copies = 0, barriers = 0, switches = 0;
};

// A mistake of the kernel: what() says which block, warp, operation and line. Thrown by launch().
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where a thread waits.
struct Site {
  const char* op = nullptr;
  const char* file = nullptr;
  int line = 0;
  bool operator==(const Site& other) const {
    return op == other.op && line == other.line && file == other.file;
  }
};

enum class State : uint8_t { Ready, InCollective, AtBarrier, Exited };

struct Copy {
  void* to;          // shared
  const void* from;  // global; null: zero fill
  int bytes;
};

struct Warp;
struct Block;

struct Thread {
  Fiber fiber;
  uint32_t index = 0;  // in the block
  int lane = 0;
  State state = State::Ready;
  Warp* warp = nullptr;
  Block* block = nullptr;
  std::vector<std::vector<Copy>> copyGroups;  // committed ones in order, then the open one
};

struct Warp {
  Thread* lanes[kWarpSize] = {};
  uint32_t arrived = 0;  // lanes waiting in the collective at `site`
  Site site;
  void* operands[kWarpSize] = {};
};

struct Block {
  Dim3 index;
  std::vector<Thread*> threads;
  std::vector<Warp> warps;
  std::vector<unsigned char> storage;  // guard, shared memory, guard
  unsigned char* shared = nullptr;
  size_t sharedBytes = 0;
  uint32_t atBarrier = 0, alive = 0;
  Site barrier;
};

Options& options();
Counters& counters();

// Runs body once per thread. Throws Fault; the simulator can be used again afterwards.
void launch(Dim3 grid, uint32_t threadsPerBlock, size_t sharedBytes, const std::function<void()>& body);

// Who takes the work of launches on streams (gpu_sim.cc); a launch on the null stream runs at once.
using StreamSubmitter = int (*)(void* stream, std::function<void()> work);
StreamSubmitter& streamSubmitter();

// Everything below is for the running thread.
Thread& self();
Dim3 gridSize();
uint32_t blockSize();
[[noreturn]] void fault(const std::string& what);
void barrier(Site site);
using Collective = void (*)(void* const* operands);  // operands[lane], 32 of them
void collective(Site site, void* operand, Collective run);
void copyAsync(void* to, const void* from, int bytes, bool valid);
void commitCopies();
void waitCopies(size_t newestAllowedPending);
void checkShared(const void* address, size_t bytes, size_t alignment, const char* op);

}  // namespace octavo::sim
