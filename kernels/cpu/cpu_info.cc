// What the processor offers: instruction set and physical cores, each asked once.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>

#include "../control_groups.h"
#include "cpu.h"
#include "isa.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace octavo {
namespace cpu {
namespace {

Isa bestIsa() {
#if defined(OCTAVO_X86)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return __builtin_cpu_supports("avx512vnni") ? Isa::Avx512Vnni : Isa::Avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return Isa::Avx2;
#endif
  return Isa::Generic;
}

std::atomic<int> forcedIsa{-1};

const char* const kIsaNames[] = {"generic", "avx2", "avx512", "avx512vnni"};

#if defined(__linux__)

bool readFile(const char* path, char* text, size_t size) {
  FILE* file = std::fopen(path, "r");
  if (!file) return false;
  const size_t length = std::fread(text, 1, size - 1, file);
  text[length] = 0;
  std::fclose(file);
  return length > 0;
}

// A core is counted at the first of its hardware threads that this process may run on.
int countCores() {
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return 0;
  int cores = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &usable)) continue;
    char path[96], siblings[256];
    std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    if (!readFile(path, siblings, sizeof siblings)) return 0;
    int from = 0, to = 0, length = 0, first = cpu;  // "0,32" or "0-1"
    for (const char* text = siblings; std::sscanf(text, "%d%n", &from, &length) == 1;) {
      text += length;
      to = from;
      if (*text == '-' && std::sscanf(text, "-%d%n", &to, &length) == 1) text += length;
      for (int i = from; i <= to && i < CPU_SETSIZE; ++i) {
        if (CPU_ISSET(i, &usable) && i < first) first = i;
      }
      if (*text == ',') ++text;
    }
    if (first == cpu) ++cores;
  }
  return cores;
}

#else

int countCores() {
  return 0;
}

#endif

int countProcessors() {
#if defined(__linux__)
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) == 0) return CPU_COUNT(&usable);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

// Within the quota of the control groups, and at least 1.
int withinQuota(int processors) {
  const int quota = quotaCores("");
  if (quota > 0 && quota < processors) processors = quota;
  return processors < 1 ? 1 : processors;
}

}  // namespace

Isa currentIsa() {
  static const Isa best = bestIsa();
  const int forced = forcedIsa.load();
  return forced < 0 ? best : static_cast<Isa>(forced);
}

}  // namespace cpu

const char* cpuIsa() {
  return cpu::kIsaNames[static_cast<int>(cpu::currentIsa())];
}

int countPhysicalCores() {
  const int cores = cpu::countCores();
  return cpu::withinQuota(cores < 1 ? cpu::countProcessors() : cores);
}

int availableProcessors() {
  return cpu::withinQuota(cpu::countProcessors());
}

int physicalCores() {
  static const int cores = countPhysicalCores();
  return cores;
}

bool cpuForceIsa(const char* name) {
  if (!name) {
    cpu::forcedIsa = -1;
    return true;
  }
  for (int i = 0; i <= static_cast<int>(cpu::bestIsa()); ++i) {
    if (std::strcmp(name, cpu::kIsaNames[i]) != 0) continue;
    cpu::forcedIsa = i;
    return true;
  }
  return false;
}

}  // namespace octavo
