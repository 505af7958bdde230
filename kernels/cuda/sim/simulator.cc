#include "simulator.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

namespace octavo::sim {
namespace {

constexpr unsigned char kGuardByte = 0xA5;
constexpr unsigned char kPoisonByte = 0xFF;  // NaN as fp16, bf16 and fp32
constexpr size_t kSharedAlignment = 128;

// A launch in progress.
struct Grid {
  Dim3 size;
  uint32_t threadsPerBlock = 0;
  size_t sharedBytes = 0;
  const std::function<void()>* body = nullptr;
  std::vector<uint32_t> order;  // block numbers in the order they start
  size_t started = 0;
  std::string fault;
};

Options theOptions;
Counters theCounters;
Grid grid;
Fiber scheduler;
Thread* running = nullptr;                        // null while the scheduler runs
std::vector<std::unique_ptr<Thread>> threadPool;  // kept between launches for their stacks
uint32_t random32 = 1;

uint32_t nextRandom() {
  return (random32 = random32 * 1664525u + 1013904223u) >> 8;
}

std::string describe(const Site& site) {
  return std::string(site.op) + " at " + site.file + ":" + std::to_string(site.line);
}

std::string where(const Thread& t) {
  const Dim3& b = t.block->index;
  return "block (" + std::to_string(b.x) + ", " + std::to_string(b.y) + ", " + std::to_string(b.z) +
         ") thread " + std::to_string(t.index);
}

void switchTo(Thread* next) {
  ++theCounters.switches;
  Fiber& from = running ? running->fiber : scheduler;
  running = next;
  (next ? next->fiber : scheduler).switchFrom(from);
}

// Another lane of this warp that can run, else the scheduler.
void waitForOthers() {
  Warp& warp = *running->warp;
  for (int i = 1; i < kWarpSize; ++i) {
    Thread* next = warp.lanes[(running->lane + i) % kWarpSize];
    if (next->state == State::Ready) return switchTo(next);
  }
  switchTo(nullptr);
}

void landGroup(const std::vector<Copy>& group) {
  for (const Copy& copy : group) {
    if (copy.from) {
      std::memcpy(copy.to, copy.from, copy.bytes);
    } else {
      std::memset(copy.to, 0, copy.bytes);
    }
  }
}

void threadMain() {
  Fiber::entered(scheduler);
  (*grid.body)();
  Thread& t = self();
  for (const auto& group : t.copyGroups) {
    if (!group.empty()) fault("thread exits with cp.async copies in flight");
  }
  if (t.block->atBarrier > 0) fault("thread exits while others wait in " + describe(t.block->barrier));
  if (t.warp->arrived) fault("lane exits while others wait in " + describe(t.warp->site));
  t.state = State::Exited;
  --t.block->alive;
  for (;;) waitForOthers();
}

void prepareShared(Block& block) {
  block.sharedBytes = grid.sharedBytes;
  block.storage.assign(grid.sharedBytes + 2 * kGuardBytes + kSharedAlignment, kGuardByte);
  const auto start = reinterpret_cast<uintptr_t>(block.storage.data()) + kGuardBytes;
  block.shared =
      reinterpret_cast<unsigned char*>((start + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment);
  std::memset(block.shared, theOptions.poison ? kPoisonByte : 0, grid.sharedBytes);
#if defined(__SANITIZE_ADDRESS__)
  unsigned char* end = block.shared + block.sharedBytes;
  ASAN_POISON_MEMORY_REGION(block.shared - kGuardBytes, kGuardBytes);
  ASAN_POISON_MEMORY_REGION(end, kGuardBytes);
#endif
}

void unguard([[maybe_unused]] Block& block) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(block.storage.data(), block.storage.size());
#endif
}

void checkGuards(Block& block) {
  unguard(block);
  const unsigned char* end = block.shared + block.sharedBytes;
  for (int i = 0; i < kGuardBytes; ++i) {
    if (block.shared[-1 - i] != kGuardByte || end[i] != kGuardByte) {
      grid.fault =
          "write outside the block's " + std::to_string(block.sharedBytes) + " bytes of shared memory";
      return;
    }
  }
}

void startBlock(Block& block, size_t residentSlot) {
  const uint32_t number = grid.order[grid.started++];
  block.index = {number % grid.size.x, number / grid.size.x % grid.size.y,
                 number / (grid.size.x * grid.size.y)};
  block.atBarrier = 0;
  block.alive = grid.threadsPerBlock;
  block.threads.resize(grid.threadsPerBlock);
  block.warps.assign(grid.threadsPerBlock / kWarpSize, Warp());
  prepareShared(block);
  for (uint32_t i = 0; i < grid.threadsPerBlock; ++i) {
    Thread& t = *threadPool[residentSlot * grid.threadsPerBlock + i];
    t.index = i;
    t.lane = static_cast<int>(i % kWarpSize);
    t.state = State::Ready;
    t.warp = &block.warps[i / kWarpSize];
    t.block = &block;
    t.copyGroups.assign(1, {});
    t.warp->lanes[t.lane] = &t;
    block.threads[i] = &t;
    t.fiber.start(threadMain);
  }
}

// Lets every warp that can run do so once. Returns whether any could.
bool runWarps(Block& block) {
  const auto numWarps = static_cast<uint32_t>(block.warps.size());
  const uint32_t firstWarp = theOptions.seed ? nextRandom() % numWarps : 0;
  const uint32_t stride = theOptions.seed && nextRandom() % 2 ? numWarps - 1 : 1;  // ascending or descending
  bool progressed = false;
  for (uint32_t i = 0; i < numWarps && grid.fault.empty(); ++i) {
    Warp& warp = block.warps[(firstWarp + i * stride) % numWarps];
    const uint32_t firstLane = theOptions.seed ? nextRandom() % kWarpSize : 0;
    for (uint32_t l = 0; l < kWarpSize; ++l) {
      Thread* t = warp.lanes[(firstLane + l) % kWarpSize];
      if (t->state != State::Ready) continue;
      progressed = true;
      switchTo(t);
      break;
    }
  }
  return progressed;
}

// Why nothing can run: the operations that threads wait in, by count.
std::string describeDeadlock(const std::vector<Block>& blocks) {
  for (const Block& block : blocks) {
    if (!block.alive) continue;
    for (const Warp& warp : block.warps) {
      if (!warp.arrived) continue;
      return "deadlock: " + std::to_string(__builtin_popcount(warp.arrived)) + " of 32 lanes wait in " +
             describe(warp.site) + ", the others " +
             (block.atBarrier ? "are at " + describe(block.barrier) : std::string("have left"));
    }
    if (block.atBarrier) {
      return "deadlock: " + std::to_string(block.atBarrier) + " of " + std::to_string(block.threads.size()) +
             " threads wait in " + describe(block.barrier);
    }
  }
  return "deadlock";
}

void runGrid() {
  const size_t total = grid.order.size();
  size_t resident = theOptions.residentBlocks > 0 ? static_cast<size_t>(theOptions.residentBlocks) : total;
  resident = std::min(resident, total);
  while (threadPool.size() < resident * grid.threadsPerBlock)
    threadPool.push_back(std::make_unique<Thread>());
  std::vector<Block> blocks(resident);
  for (size_t i = 0; i < resident; ++i) startBlock(blocks[i], i);
  size_t finished = 0;
  while (finished < total && grid.fault.empty()) {
    bool progressed = false;
    for (size_t i = 0; i < resident && grid.fault.empty(); ++i) {
      if (!blocks[i].alive) continue;
      progressed = runWarps(blocks[i]) || progressed;
      if (blocks[i].alive || !grid.fault.empty()) continue;
      checkGuards(blocks[i]);
      ++finished;
      if (grid.started < total) startBlock(blocks[i], i);
    }
    if (!progressed && grid.fault.empty()) grid.fault = describeDeadlock(blocks);
  }
  for (Block& block : blocks) unguard(block);
}

}  // namespace

Options& options() {
  return theOptions;
}
Counters& counters() {
  return theCounters;
}
StreamSubmitter& streamSubmitter() {
  static StreamSubmitter submitter = nullptr;
  return submitter;
}
Thread& self() {
  return *running;
}
Dim3 gridSize() {
  return grid.size;
}
uint32_t blockSize() {
  return grid.threadsPerBlock;
}

void launch(Dim3 size, uint32_t threadsPerBlock, size_t sharedBytes, const std::function<void()>& body) {
  if (running) throw Fault("launch from inside a kernel");
  if (threadsPerBlock == 0 || threadsPerBlock > 1024 || threadsPerBlock % kWarpSize)
    throw Fault("threads per block must be a multiple of 32 up to 1024, got " +
                std::to_string(threadsPerBlock));
  if (size.x == 0 || size.y == 0 || size.z == 0 || size.y > 65535 || size.z > 65535)
    throw Fault("grid dimension out of range");
  grid = Grid{size, threadsPerBlock, sharedBytes, &body, {}, 0, {}};
  grid.order.resize(static_cast<size_t>(size.x) * size.y * size.z);
  std::iota(grid.order.begin(), grid.order.end(), 0u);
  random32 = theOptions.seed * 2654435761u + 12345u;
  if (theOptions.seed) {
    for (size_t i = grid.order.size(); i > 1; --i) std::swap(grid.order[i - 1], grid.order[nextRandom() % i]);
  }
  runGrid();
  if (!grid.fault.empty()) throw Fault(grid.fault);
}

void fault(const std::string& what) {
  grid.fault = what + " [" + where(self()) + "]";
  for (;;) switchTo(nullptr);  // never continued: the scheduler throws
}

void barrier(Site site) {
  Block& block = *self().block;
  if (block.atBarrier && !(block.barrier == site))
    fault("divergent barriers: " + describe(block.barrier) + " and " + describe(site));
  if (block.alive != block.threads.size()) fault("barrier after threads have exited: " + describe(site));
  block.barrier = site;
  if (++block.atBarrier < block.threads.size()) {
    self().state = State::AtBarrier;
    return waitForOthers();
  }
  block.atBarrier = 0;
  ++theCounters.barriers;
  for (Thread* t : block.threads) t->state = State::Ready;
}

void collective(Site site, void* operand, Collective run) {
  Warp& warp = *self().warp;
  if (warp.arrived && !(warp.site == site))
    fault("warp divergence: " + describe(warp.site) + " and " + describe(site));
  for (Thread* t : warp.lanes) {
    if (t->state == State::Exited) fault("lanes have exited before " + describe(site));
  }
  warp.site = site;
  warp.operands[self().lane] = operand;
  warp.arrived |= 1u << self().lane;
  if (warp.arrived != ~0u) {
    self().state = State::InCollective;
    return waitForOthers();
  }
  run(warp.operands);
  warp.arrived = 0;
  for (Thread* t : warp.lanes) t->state = State::Ready;
}

void copyAsync(void* to, const void* from, int bytes, bool valid) {
  checkShared(to, static_cast<size_t>(bytes), static_cast<size_t>(bytes), "cp.async");
  if (valid && reinterpret_cast<uintptr_t>(from) % static_cast<size_t>(bytes))
    fault("cp.async from a misaligned address");
  ++theCounters.copies;
  const Copy copy{to, valid ? from : nullptr, bytes};
  if (!theOptions.lazyCopies) return landGroup({copy});
  if (theOptions.poison) std::memset(to, kPoisonByte, static_cast<size_t>(bytes));
  self().copyGroups.back().push_back(copy);
}

void commitCopies() {
  self().copyGroups.emplace_back();
}

void waitCopies(size_t newestAllowedPending) {
  auto& groups = self().copyGroups;
  if (groups.size() <= newestAllowedPending + 1) return;
  const size_t landed = groups.size() - 1 - newestAllowedPending;
  for (size_t i = 0; i < landed; ++i) landGroup(groups[i]);
  groups.erase(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(landed));
}

void checkShared(const void* address, size_t bytes, size_t alignment, const char* op) {
  const Block& block = *self().block;
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto begin = reinterpret_cast<uintptr_t>(block.shared);
  if (at < begin || at + bytes > begin + block.sharedBytes)
    fault(std::string(op) + " outside shared memory: offset " +
          std::to_string(static_cast<int64_t>(at - begin)) + " of " + std::to_string(block.sharedBytes) +
          " bytes");
  if (at % alignment) fault(std::string(op) + " at a misaligned shared address");
}

}  // namespace octavo::sim
