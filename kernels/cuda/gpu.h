// The device as the host sees it: memory, streams, events, graphs. Two implementations: runtime/gpu_cuda.cc
// over the CUDA runtime, sim/gpu_sim.cc over the simulator, where a stream's work is done as late as its
// events allow or as early, by turns, so that a missing wait shows. Every int is 0 or an error code for
// errorText(); after a failed kernel all calls fail until reset().
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

#include "types.h"

struct CUevent_st;
struct CUgraphExec_st;

namespace octavo::gpu {

using Stream = cuda::Stream;
using Event = CUevent_st*;
using Graph = CUgraphExec_st*;

struct Description {
  char name[128];
  char driver[64];
  int major, minor;  // compute capability
  int multiprocessors;
  size_t totalMemory, freeMemory;  // bytes
  bool measurable;                 // elapsed() tells how long kernels take on the device
};

// Fills `description`, or returns non-zero with one line that says why this device can't be used.
int describe(Description* description, char* reason, size_t reasonSize);

// Also of kInvalidShape (launchers.h) and of a library's failures (matmul_library.h).
const char* errorText(int error);

int allocate(void** memory, size_t bytes);  // device
int release(void* memory);
int allocateHost(void** memory, size_t bytes);  // pinned
int releaseHost(void* memory);

int createStream(Stream* stream);
void destroyStream(Stream stream);
int synchronize(Stream stream);

// Asynchronous copies in any direction; host memory is pinned.
int copy(void* to, const void* from, size_t bytes, Stream stream);
int copyRows(void* to, size_t toPitch, const void* from, size_t fromPitch, size_t rowBytes, size_t rows,
             Stream stream);
// From host memory that may change once this has returned.
int copyFromPageable(void* to, const void* from, size_t bytes, Stream stream);
int clear(void* memory, size_t bytes, Stream stream);

int createEvent(Event* event);
void destroyEvent(Event event);
int record(Event event, Stream stream);
int wait(Stream stream, Event event);  // what follows on the stream comes after the event's last record
int synchronize(Event event);          // from any thread
int elapsed(Event from, Event to, double* microseconds);  // both have happened

// A call into a library that puts its work on the stream itself; the simulator makes it when its turn on the
// stream comes, as libraries there compute at once. Gives what the call gives.
int enqueue(Stream stream, std::function<int()> call);

// What is launched on the stream between these two is recorded and not run.
int beginCapture(Stream stream);
int endCapture(Stream stream, Graph* graph);
int launch(Graph graph, Stream stream);
void destroyGraph(Graph graph);

// Clears a failed device, with everything on it, so that this process can open it again.
void reset();

}  // namespace octavo::gpu
