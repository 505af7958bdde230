// gpu.h over the CUDA runtime, which is linked statically and finds the driver at run time, or doesn't.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../gpu.h"
#include "../matmul_library.h"

namespace octavo::gpu {
namespace {

constexpr int kLeastMajor = 8;

int code(cudaError_t error) {
  return static_cast<int>(error);
}

template <typename... Parts>
int refuse(char* reason, size_t size, const char* format, Parts... parts) {
  std::snprintf(reason, size, format, parts...);
  return 1;
}

// Kernels are loaded with the context and not at their first launch, which may be inside of a capture.
void loadKernelsAtOnce() {
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
}

}  // namespace

int describe(Description* description, char* reason, size_t reasonSize) {
  loadKernelsAtOnce();
  int driver = 0, runtime = 0, devices = 0;
  cudaRuntimeGetVersion(&runtime);
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return refuse(reason, reasonSize, "no NVIDIA driver was found (libcuda.so.1)");
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaErrorInsufficientDriver)
    return refuse(reason, reasonSize, "the driver supports CUDA %d.%d, this build needs %d.%d or newer",
                  driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && devices == 0))
    return refuse(reason, reasonSize, "the driver has no device for this process");
  if (error != cudaSuccess) return refuse(reason, reasonSize, "%s", cudaGetErrorString(error));
  cudaDeviceProp properties;
  error = cudaGetDeviceProperties(&properties, 0);
  if (error != cudaSuccess) return refuse(reason, reasonSize, "%s", cudaGetErrorString(error));
  if (properties.major < kLeastMajor)
    return refuse(reason, reasonSize, "%s has compute capability %d.%d, expected %d.0 or newer",
                  properties.name, properties.major, properties.minor, kLeastMajor);
  std::snprintf(description->name, sizeof description->name, "%.127s", properties.name);
  std::snprintf(description->driver, sizeof description->driver, "CUDA %d.%d", driver / 1000,
                driver % 1000 / 10);
  description->major = properties.major;
  description->minor = properties.minor;
  description->multiprocessors = properties.multiProcessorCount;
  error = cudaMemGetInfo(&description->freeMemory, &description->totalMemory);
  if (error != cudaSuccess) return refuse(reason, reasonSize, "%s", cudaGetErrorString(error));
  description->measurable = true;
  return 0;
}

const char* errorText(int error) {
  if (error <= cuda::kLibraryFailure) {
    static thread_local char text[64];
    std::snprintf(text, sizeof text, "cuBLASLt failed with status %d", cuda::kLibraryFailure - error);
    return text;
  }
  return error == -1 ? "no kernel for these shapes" : cudaGetErrorString(static_cast<cudaError_t>(error));
}

int allocate(void** memory, size_t bytes) {
  const cudaError_t error = cudaMalloc(memory, bytes ? bytes : 1);
  // An allocation that fails leaves the device as it was; the error must not be found by the next launch.
  if (error == cudaErrorMemoryAllocation) cudaGetLastError();
  return code(error);
}
int release(void* memory) {
  return code(cudaFree(memory));
}
int allocateHost(void** memory, size_t bytes) {
  const cudaError_t error = cudaHostAlloc(memory, bytes ? bytes : 1, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) cudaGetLastError();
  return code(error);
}
int releaseHost(void* memory) {
  return code(cudaFreeHost(memory));
}

int createStream(Stream* stream) {
  return code(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking));
}
void destroyStream(Stream stream) {
  cudaStreamDestroy(stream);
}
int synchronize(Stream stream) {
  return code(cudaStreamSynchronize(stream));
}

int copy(void* to, const void* from, size_t bytes, Stream stream) {
  return code(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream));
}
int copyRows(void* to, size_t toPitch, const void* from, size_t fromPitch, size_t rowBytes, size_t rows,
             Stream stream) {
  return code(cudaMemcpy2DAsync(to, toPitch, from, fromPitch, rowBytes, rows, cudaMemcpyDefault, stream));
}
// The runtime copies pageable memory to a buffer of its own before it returns.
int copyFromPageable(void* to, const void* from, size_t bytes, Stream stream) {
  return code(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream));
}
int clear(void* memory, size_t bytes, Stream stream) {
  return code(cudaMemsetAsync(memory, 0, bytes, stream));
}

int createEvent(Event* event) {
  return code(cudaEventCreate(event));
}
void destroyEvent(Event event) {
  cudaEventDestroy(event);
}
int record(Event event, Stream stream) {
  return code(cudaEventRecord(event, stream));
}
int wait(Stream stream, Event event) {
  return code(cudaStreamWaitEvent(stream, event, 0));
}
int synchronize(Event event) {
  return code(cudaEventSynchronize(event));
}
int elapsed(Event from, Event to, double* microseconds) {
  float milliseconds = 0;
  const cudaError_t error = cudaEventElapsedTime(&milliseconds, from, to);
  *microseconds = milliseconds * 1e3;
  return code(error);
}

int enqueue(Stream, std::function<int()> call) {
  return call();
}

int beginCapture(Stream stream) {
  return code(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}
int endCapture(Stream stream, Graph* graph) {
  cudaGraph_t captured = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream, &captured);
  if (error != cudaSuccess) return code(error);
  error = cudaGraphInstantiate(graph, captured, 0);
  cudaGraphDestroy(captured);
  if (error != cudaSuccess) return code(error);
  return code(cudaGraphUpload(*graph, stream));
}
int launch(Graph graph, Stream stream) {
  return code(cudaGraphLaunch(graph, stream));
}
void destroyGraph(Graph graph) {
  cudaGraphExecDestroy(graph);
}

void reset() {
  cudaDeviceReset();
}

}  // namespace octavo::gpu
