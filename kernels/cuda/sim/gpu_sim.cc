// gpu.h over the simulator. A stream is a queue of work that is done on the caller's thread when somebody
// waits for it, or at once: chosen anew for each piece by OCTAVO_SIM_SEED (default 1), so that copies
// overtake kernels and kernels overtake copies wherever no event orders them.
//
// OCTAVO_SIM_FAIL_AT_LAUNCH=n makes the n-th kernel of the process fail as a real one does: asynchronously,
// and for good until the device is reset. OCTAVO_SIM_MEMORY=n gives the device n MiB (default 2048).
// OCTAVO_SIM_MEASURABLE=1 passes off the processor's time as the device's, so that what measures can be run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "../gpu.h"
#include "../matmul_library.h"
#include "simulator.h"

using Work = std::function<void()>;

struct CUstream_st {
  std::deque<Work> pending;
  uint64_t submitted = 0, done = 0;  // pieces of work
  std::vector<Work>* recording = nullptr;
};

struct CUevent_st {
  CUstream_st* stream = nullptr;  // null: never recorded
  uint64_t after = 0;             // pieces of the stream's work
  std::chrono::steady_clock::time_point time;
};

struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace octavo::gpu {
namespace {

constexpr int kFailed = 719;  // what CUDA calls an unspecified launch failure
constexpr int kNoMemory = 2;
constexpr size_t kAlignment = 256;  // of cudaMalloc

uint64_t environmentNumber(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

struct Device {
  std::recursive_mutex mutex;  // of everything here, and of the simulator
  int error = 0;
  std::string errorText;
  uint64_t launches = 0;
  uint32_t random = static_cast<uint32_t>(environmentNumber("OCTAVO_SIM_SEED", 1));
  std::map<void*, size_t> memory;
  size_t taken = 0;
};

Device& device() {
  static Device* const theDevice = new Device;  // outlives the threads that may still be waiting at exit
  return *theDevice;
}

using Lock = std::lock_guard<std::recursive_mutex>;

size_t deviceBytes() {
  return environmentNumber("OCTAVO_SIM_MEMORY", 2048) << 20;
}

void doNext(CUstream_st& stream) {
  Device& d = device();
  Work work = std::move(stream.pending.front());
  stream.pending.pop_front();
  stream.done++;
  if (d.error) return;  // a failed device does nothing more
  try {
    work();
  } catch (const std::exception& fault) {
    d.error = kFailed;
    d.errorText = fault.what();
  }
}

void runUntil(CUstream_st& stream, uint64_t count) {
  while (stream.done < count) doNext(stream);
}

int submit(CUstream_st* stream, Work work) {
  Device& d = device();
  const Lock lock(d.mutex);
  if (stream->recording) {
    stream->recording->push_back(std::move(work));
    return 0;
  }
  if (d.error) return d.error;
  stream->pending.push_back(std::move(work));
  stream->submitted++;
  d.random = d.random * 1664525u + 1013904223u;
  if (d.random >> 28 < 4) runUntil(*stream, stream->submitted);
  return 0;
}

// A kernel: what the launchers of the kernels hand over.
int submitKernel(void* stream, Work work) {
  return submit(static_cast<CUstream_st*>(stream), [work = std::move(work)] {
    static const uint64_t failAt = environmentNumber("OCTAVO_SIM_FAIL_AT_LAUNCH", 0);
    if (++device().launches == failAt)
      throw sim::Fault("unspecified launch failure (OCTAVO_SIM_FAIL_AT_LAUNCH)");
    work();
  });
}

}  // namespace

int describe(Description* description, char*, size_t) {
  Device& d = device();
  const Lock lock(d.mutex);
  std::snprintf(description->name, sizeof description->name, "the CUDA kernels, simulated on the processor");
  std::snprintf(description->driver, sizeof description->driver, "none");
  description->major = 8;
  description->minor = 6;
  description->multiprocessors = 2;
  description->totalMemory = deviceBytes();
  description->freeMemory = deviceBytes() - std::min(deviceBytes(), d.taken);
  description->measurable = environmentNumber("OCTAVO_SIM_MEASURABLE", 0) != 0;
  return 0;
}

const char* errorText(int error) {
  if (error == -1) return "no kernel for these shapes";
  if (error == kNoMemory) return "out of memory";
  static thread_local std::string text;  // the device's own may change while the caller reads
  if (error <= cuda::kLibraryFailure) {
    text = "cuBLASLt failed with status " + std::to_string(cuda::kLibraryFailure - error);
    return text.c_str();
  }
  Device& d = device();
  const Lock lock(d.mutex);
  text = d.errorText;
  return text.c_str();
}

int allocate(void** memory, size_t bytes) {
  Device& d = device();
  const Lock lock(d.mutex);
  if (d.error) return d.error;
  *memory = bytes > deviceBytes() - std::min(deviceBytes(), d.taken)
                ? nullptr
                : std::aligned_alloc(kAlignment, (bytes + kAlignment) / kAlignment * kAlignment);
  if (!*memory) return kNoMemory;
  d.memory[*memory] = bytes;
  d.taken += bytes;
  return 0;
}

int release(void* memory) {
  Device& d = device();
  const Lock lock(d.mutex);
  const auto found = d.memory.find(memory);
  if (found == d.memory.end()) return 0;
  d.taken -= found->second;
  d.memory.erase(found);
  std::free(memory);
  return d.error;
}

int allocateHost(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(kAlignment, (bytes + kAlignment) / kAlignment * kAlignment);
  return *memory ? 0 : kNoMemory;
}
int releaseHost(void* memory) {
  std::free(memory);
  return 0;
}

int createStream(Stream* stream) {
  sim::streamSubmitter() = submitKernel;
  *stream = new CUstream_st;
  return device().error;
}
void destroyStream(Stream stream) {
  delete stream;
}

int synchronize(Stream stream) {
  Device& d = device();
  const Lock lock(d.mutex);
  runUntil(*stream, stream->submitted);
  return d.error;
}

int copy(void* to, const void* from, size_t bytes, Stream stream) {
  return copyRows(to, bytes, from, bytes, bytes, 1, stream);
}

int copyRows(void* to, size_t toPitch, const void* from, size_t fromPitch, size_t rowBytes, size_t rows,
             Stream stream) {
  return submit(stream, [=] {
    for (size_t r = 0; r < rows; r++)
      std::memcpy(static_cast<char*>(to) + r * toPitch, static_cast<const char*>(from) + r * fromPitch,
                  rowBytes);
  });
}

int copyFromPageable(void* to, const void* from, size_t bytes, Stream stream) {
  const auto* begin = static_cast<const char*>(from);
  return submit(stream, [to, source = std::vector<char>(begin, begin + bytes)] {
    std::memcpy(to, source.data(), source.size());
  });
}

int clear(void* memory, size_t bytes, Stream stream) {
  return submit(stream, [=] { std::memset(memory, 0, bytes); });
}

int createEvent(Event* event) {
  *event = new CUevent_st;
  return 0;
}
void destroyEvent(Event event) {
  delete event;
}

int record(Event event, Stream stream) {
  const Lock lock(device().mutex);
  const int error = submit(stream, [event] { event->time = std::chrono::steady_clock::now(); });
  event->stream = stream;
  event->after = stream->submitted;
  return error;
}

int wait(Stream stream, Event event) {
  const Lock lock(device().mutex);
  if (!event->stream) return 0;
  return submit(stream, [from = event->stream, after = event->after] { runUntil(*from, after); });
}

int synchronize(Event event) {
  Device& d = device();
  const Lock lock(d.mutex);
  if (event->stream) runUntil(*event->stream, event->after);
  return d.error;
}

int elapsed(Event from, Event to, double* microseconds) {
  const Lock lock(device().mutex);
  *microseconds = std::chrono::duration<double, std::micro>(to->time - from->time).count();
  return 0;
}

int enqueue(Stream stream, std::function<int()> call) {
  return submit(stream, [call = std::move(call)] {
    if (const int error = call()) throw sim::Fault(errorText(error));
  });
}

int beginCapture(Stream stream) {
  const Lock lock(device().mutex);
  stream->recording = new std::vector<Work>;
  return device().error;
}

int endCapture(Stream stream, Graph* graph) {
  const Lock lock(device().mutex);
  *graph = new CUgraphExec_st{std::move(*stream->recording)};
  delete stream->recording;
  stream->recording = nullptr;
  return device().error;
}

int launch(Graph graph, Stream stream) {
  const Lock lock(device().mutex);
  for (const Work& work : graph->work)
    if (const int error = submit(stream, work)) return error;
  return 0;
}

void destroyGraph(Graph graph) {
  delete graph;
}

void reset() {
  Device& d = device();
  const Lock lock(d.mutex);
  d.error = 0;
  d.errorText.clear();
}

}  // namespace octavo::gpu
