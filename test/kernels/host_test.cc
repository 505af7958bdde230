// What lies under the kernels: 16-bit floats, memory, the thread pool, and what the processor is asked.
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "../../kernels/control_groups.h"
#include "../../kernels/cpu/cpu.h"
#include "../../kernels/cpu/placement.h"
#include "../../kernels/cpu/thread_pool.h"
#include "../../kernels/half.h"
#include "harness.h"

using namespace octavo;

TEST(half_round_trip_and_rounding) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = halfToFloat(half);
    if (std::isnan(value)) continue;
    CHECK(floatToHalf(value) == half, "%04x -> %g -> %04x", bits, value, floatToHalf(value));
  }
  CHECK(halfToFloat(0x3c00) == 1 && halfToFloat(0x0001) == 0x1p-24f && halfToFloat(0xfbff) == -65504,
        "values");
  CHECK(std::isinf(halfToFloat(0x7c00)) && std::isnan(halfToFloat(0x7e00)), "not finite");
  CHECK(floatToHalf(65519.0f) == 0x7bff && floatToHalf(65520.0f) == 0x7c00, "overflow");
  CHECK(floatToHalf(1 + 0x1p-11f) == 0x3c00 && floatToHalf(1 + 3 * 0x1p-11f) == 0x3c02, "ties to even");
  CHECK(floatToHalf(0x1p-25f) == 0 && floatToHalf(0x1.8p-25f) == 1, "subnormal rounding");
  CHECK(std::isnan(halfToFloat(floatToHalf(NAN))), "NaN");
}

TEST(memory_is_aligned_zeroed_and_released) {
  for (const Ops* ops : {referenceOps(), cpuOps()}) {
    test::Backend backend(ops, test::smallOptions());
    std::vector<void*> blocks;
    for (size_t bytes : {1u, 64u, 1000u, 100000u}) {
      auto* memory = static_cast<unsigned char*>(ops->alloc(backend.context, bytes));
      CHECK(memory && reinterpret_cast<uintptr_t>(memory) % 64 == 0, "alignment");
      for (size_t i = 0; i < bytes; ++i) CHECK(memory[i] == 0, "zero");
      std::memset(memory, 1, bytes);
      blocks.push_back(memory);
    }
    ops->release(backend.context, blocks[1]);
    ops->release(backend.context, nullptr);
    CHECK(!ops->alloc(backend.context, SIZE_MAX / 2), "too much memory");
    CHECK(std::strlen(ops->lastError(backend.context)) > 0, "no reason given");
    CHECK(ops->setKvDType(backend.context, DType::BF16) != 0, "no such KV type");
  }
}

// Blocks of a KV cache: 64 KiB in the memory of each of 16 layers.
TEST(layers_enter_their_huge_pages_one_after_the_other) {
  constexpr uintptr_t kHugePage = 2 << 20, kBlock = 1 << 16;
  constexpr size_t kLayers = 16, kBytes = 9 << 20;
  for (const Ops* ops : {referenceOps(), cpuOps()}) {
    test::Backend backend(ops, test::smallOptions());
    std::vector<uintptr_t> layers;
    for (size_t i = 0; i < kLayers; ++i) {
      auto* memory = static_cast<unsigned char*>(ops->alloc(backend.context, kBytes));
      CHECK(memory && reinterpret_cast<uintptr_t>(memory) % 64 == 0, "alignment");
      for (const size_t at : {size_t{0}, kBytes / 2, kBytes - 1}) {
        CHECK(memory[at] == 0, "zero");
        memory[at] = 1;
      }
      layers.push_back(reinterpret_cast<uintptr_t>(memory));
    }
    for (uintptr_t block = 1; block < kBytes / kBlock; ++block) {
      int entered = 0;
      for (const uintptr_t layer : layers) {
        const uintptr_t first = layer + block * kBlock, last = first + kBlock - 1;
        entered += (first - 1) / kHugePage != last / kHugePage;
      }
      CHECK(entered <= 2, "block %d enters %d huge pages", static_cast<int>(block), entered);
    }
    for (const uintptr_t layer : layers) ops->release(backend.context, reinterpret_cast<void*>(layer));
    auto* again = static_cast<unsigned char*>(ops->alloc(backend.context, kBytes));
    CHECK(again && again[0] == 0 && again[kBytes - 1] == 0, "zero after a release");
  }
}

TEST(pool_runs_every_item_once) {
  for (int threads : {1, 2, 5}) {
    cpu::ThreadPool pool;
    CHECK(pool.start(threads) && pool.threads() == threads, "threads");
    std::vector<std::atomic<int>> seen(1000);
    for (int round = 0; round < 300; ++round) {
      const int64_t items = round * 7 % 1000;
      pool.run(items, [&](int64_t item, int thread) {
        CHECK(thread >= 0 && thread < threads, "thread %d", thread);
        seen[static_cast<size_t>(item)].fetch_add(1);
      });
      for (int64_t i = 0; i < 1000; ++i)
        CHECK(seen[static_cast<size_t>(i)].exchange(0) == (i < items), "round %d item %d", round,
              static_cast<int>(i));
      // Now and then long enough for the workers to sleep.
      if (round % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
}

TEST(pool_items_run_at_the_same_time) {
  cpu::ThreadPool pool;
  CHECK(pool.start(2), "start");
  std::atomic<int> arrived{0};
  std::set<int> threads;
  // Each of two items waits for the other: ends only if both run at once.
  int used[2] = {-1, -1};
  pool.run(2, [&](int64_t item, int thread) {
    used[item] = thread;
    arrived.fetch_add(1);
    while (arrived.load() < 2) std::this_thread::yield();
  });
  threads.insert(used, used + 2);
  CHECK(threads.size() == 2, "threads %d %d", used[0], used[1]);
}

namespace {

cpu_set_t usableProcessors() {
  cpu_set_t usable;
  CHECK(sched_getaffinity(0, sizeof usable, &usable) == 0, "affinity");
  return usable;
}

// A thread that begins to work on the processor that another one was seen on, and where it is then.
struct Meeting {
  explicit Meeting(int threads) {
    std::thread([&] {
      const cpu_set_t usable = usableProcessors();
      cpu::Placement placement;
      placement.start(threads);
      placement.place(0);
      before = sched_getcpu();
      placement.place(1);
      after = sched_getcpu();
      const cpu_set_t now = usableProcessors();
      keepsProcessors = CPU_EQUAL(&now, &usable);
    }).join();
  }
  int before = -1, after = -1;
  bool keepsProcessors = false;
};

}  // namespace

TEST(threads_that_meet_on_a_processor_part) {
  const cpu_set_t usable = usableProcessors();
  const int processors = CPU_COUNT(&usable);
  if (processors >= 2) {
    const Meeting two(2);
    CHECK(two.after != two.before, "both on %d", two.before);
    CHECK(two.keepsProcessors, "the thread may use fewer than before");
  }
  const Meeting crowd(processors + 1);
  CHECK(crowd.keepsProcessors, "the thread may use fewer than before");
}

namespace {

void allow(int id, const cpu_set_t& processors) {
  CHECK(sched_setaffinity(id, sizeof processors, &processors) == 0, "affinity of %d", id);
}

// id 0: the calling thread.
void keepTo(int processor, int id = 0) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  allow(id, one);
}

// The processor that a thread of this process runs on, or will.
int processorOf(int id) {
  std::ifstream file("/proc/self/task/" + std::to_string(id) + "/stat");
  std::string field;
  std::getline(file, field, ')');
  constexpr int kFields = 37;  // from the state on
  for (int i = 0; i < kFields; ++i) file >> field;
  return std::stoi(field);
}

// Thread 1 of a placement at work, and `others` threads that want `processor` all the time.
struct Worker {
  Worker(cpu::Placement& placement, int processor, int others) {
    threads.emplace_back([&placement, this] {
      placement.place(1);
      id = static_cast<int>(syscall(SYS_gettid));
      while (!stop) ++count;
    });
    for (int i = 0; i < others; ++i)
      threads.emplace_back([processor, this] {
        keepTo(processor);
        while (!stop) ++count;
      });
    while (id == 0) std::this_thread::yield();
  }
  ~Worker() {
    stop = true;
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<std::thread> threads;
  std::atomic<int> id{0}, count{0};
  std::atomic<bool> stop{false};
};

}  // namespace

TEST(a_thread_without_its_processor_is_fetched) {
  const cpu_set_t usable = usableProcessors();
  if (CPU_COUNT(&usable) < 2) return;
  std::vector<int> processors;
  for (int p = 0; p < CPU_SETSIZE; ++p)
    if (CPU_ISSET(p, &usable)) processors.push_back(p);
  const int here = processors[0], there = processors[1];
  std::thread([&] {
    cpu::Placement placement;
    placement.start(2);
    keepTo(here);
    // Whether one of many tries succeeds: what else the machine does makes some fail.
    const auto tries = [&](int others, auto succeeds) {
      Worker worker(placement, there, others);
      for (int i = 0; i < 2000; ++i) {
        keepTo(there, worker.id);
        allow(worker.id, usable);
        if (succeeds(worker.id)) return true;
      }
      return false;
    };
    const auto fetched = [&](int id) {
      return processorOf(id) == there && placement.fetch(1) && processorOf(id) == here;
    };
    CHECK(tries(4, fetched), "never fetched");
    CHECK(tries(0, [&](int) { return !placement.fetch(1); }), "fetched while it runs");
  }).join();
}

namespace {

// A file system with only these files, gone with the object.
struct FakeRoot {
  explicit FakeRoot(const std::vector<std::pair<std::string, std::string>>& files) {
    char pattern[] = "/tmp/octavo-root-XXXXXX";
    root = mkdtemp(pattern);
    for (const auto& [path, text] : files) {
      std::filesystem::create_directories((root + path).substr(0, (root + path).find_last_of('/')));
      std::ofstream(root + path) << text;
    }
  }
  ~FakeRoot() { std::filesystem::remove_all(root); }
  std::string root;
};

int coresIn(const std::vector<std::pair<std::string, std::string>>& files) {
  return quotaCores(FakeRoot(files).root);
}

}  // namespace

TEST(quota_of_nested_groups) {
  const std::string cgroup = "/proc/self/cgroup", v2 = "/sys/fs/cgroup", v1 = "/sys/fs/cgroup/cpu";
  CHECK(coresIn({}) == 0, "no groups");
  CHECK(coresIn({{cgroup, "0::/\n"}}) == 0, "no file");
  CHECK(coresIn({{cgroup, "0::/\n"}, {v2 + "/cpu.max", "max 100000\n"}}) == 0, "no limit");
  CHECK(coresIn({{cgroup, "0::/\n"}, {v2 + "/cpu.max", "150000 100000\n"}}) == 2, "rounded up");
  CHECK(coresIn({{cgroup, "0::/a/b/c\n"},
                 {v2 + "/a/b/c/cpu.max", "max 100000\n"},
                 {v2 + "/a/b/cpu.max", "800000 100000\n"},
                 {v2 + "/a/cpu.max", "300000 100000\n"},
                 {v2 + "/cpu.max", "400000 100000\n"}}) == 3,
        "the least of all levels");
  CHECK(coresIn({{cgroup, "0::/../../outside\n"}, {v2 + "/cpu.max", "50000 100000\n"}}) == 1,
        "a group outside of the namespace");
  const std::string both = "4:memory:/box\n3:cpu,cpuacct:/box/inner\n0::/\n";
  CHECK(coresIn({{cgroup, both},
                 {v1 + "/box/inner/cpu.cfs_quota_us", "-1\n"},
                 {v1 + "/box/inner/cpu.cfs_period_us", "100000\n"},
                 {v1 + "/box/cpu.cfs_quota_us", "400000\n"},
                 {v1 + "/box/cpu.cfs_period_us", "100000\n"}}) == 4,
        "version 1");
  CHECK(coresIn({{cgroup, "4:memory:/box\n"},
                 {v1 + "/box/cpu.cfs_quota_us", "100000\n"},
                 {v1 + "/box/cpu.cfs_period_us", "100000\n"}}) == 0,
        "another controller's group");
  CHECK(coresIn({{cgroup, "0::/\nnonsense\n"}, {v2 + "/cpu.max", "0 0\n"}}) == 0, "nonsense");
}

#if defined(__linux__)
TEST(affinity_bounds_the_cores) {
  cpu_set_t all, one;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0, "affinity");
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0, "affinity");
  const int cores = countPhysicalCores();
  const int processors = availableProcessors();
  CHECK(sched_setaffinity(0, sizeof all, &all) == 0, "affinity");
  CHECK(cores == 1, "cores %d", cores);
  CHECK(processors == 1, "processors %d", processors);
}
#endif

TEST(processor) {
  CHECK(physicalCores() >= 1, "cores");
  CHECK(availableProcessors() >= physicalCores(), "a core has a processor at least");
  CHECK(!cpuForceIsa("sse9"), "unknown instruction set");
  CHECK(cpuForceIsa("generic") && std::string(cpuIsa()) == "generic", "forced");
  CHECK(cpuForceIsa(nullptr), "back to the best");
}
