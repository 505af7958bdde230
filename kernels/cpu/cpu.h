// The cpu backend: what others may ask of it.
#pragma once
#include <cstdint>

namespace octavo {

// Instruction set that the kernels use on this processor: "avx512vnni", "avx512",
// "avx2" or "generic".
const char* cpuIsa();

// Physical cores that this process may use (affinity and container quota included), at least 1; as they were
// when it was first called.
int physicalCores();
// The same, asked anew.
int countPhysicalCores();
// Threads that can run at once: hardware threads of the affinity, within the container's quota; at least 1.
// Asked anew at each call.
int availableProcessors();

// For tests and measurements: contexts opened from now on use `name` (as cpuIsa() says them; null: the best
// there is). False: unknown, or not available on this processor.
bool cpuForceIsa(const char* name);

// The machine's own limits on `threads` threads.
struct CpuCeilings {
  double readBytesPerSecond = 0;  // of memory larger than any cache
  double flopPerSecond = 0;       // f32 multiply-adds in registers, two operations each
  double int8OpPerSecond = 0;     // byte multiply-adds in registers, as the 8-bit matmul does them, two each
  int threads = 0;
};

// Measures for about `seconds` each. `threads` 0: one per physical core. False: no memory, or no threads.
bool measureCpuCeilings(int threads, double seconds, CpuCeilings* ceilings);

}  // namespace octavo
