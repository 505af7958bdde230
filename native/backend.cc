#include "backend.h"

#include <fstream>
#include <vector>

#include "../kernels/cpu/cpu.h"
#include "check.h"
#include "host_memory.h"

namespace octavo {

namespace {

struct Backend {
  const char* name;
  const Ops* (*table)();
};

constexpr Backend kBackends[] = {{"cpu", cpuOps}, {"reference", referenceOps}};

// The processor's name as the kernel tells it.
std::string processorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (colon != std::string::npos && line.compare(0, 10, "model name") == 0) return line.substr(colon + 2);
  }
  return "CPU";
}

}  // namespace

const Ops& findBackend(const std::string& device) {
  std::string known;
  for (const Backend& backend : kBackends) {
    if (device == backend.name) {
      const Ops& ops = *backend.table();
      if (ops.abiVersion != kOpsAbiVersion)
        fail(code::kDevice, "device ", device, ": expected ops version ", kOpsAbiVersion, ", got ",
             ops.abiVersion);
      // Logits are read as f32, wherever they come from.
      if (ops.activation != DType::F32) fail(code::kDevice, "device ", device, ": expected f32 activations");
      return ops;
    }
    known += (known.empty() ? "" : ", ") + std::string(backend.name);
  }
  failArgument("device", "one of " + known, "\"" + device + "\"");
}

DeviceInfo describeDevice(const std::string& device, int32_t threads) {
  findBackend(device);
  checkRange(threads, 0, kMaxThreads, "threads");
  const HostMemory memory = readHostMemory();
  DeviceInfo info;
  info.device = device;
  info.description = processorName();
  info.isa = device == "cpu" ? cpuIsa() : "generic";
  info.totalMemory = memory.total;
  info.availableMemory = memory.available;
  info.threads = threads > 0 ? threads : physicalCores();
  return info;
}

std::string Device::lastError() const {
  const char* reason = ops.lastError(context);
  return reason && *reason ? reason : "no reason given";
}

void* Device::alloc(size_t bytes, const std::string& purpose) const {
  void* memory = ops.alloc(context, bytes);
  if (!memory)
    fail(code::kMemory, purpose, ": expected ", bytes, " bytes of ", ops.name, " memory, got none");
  return memory;
}

void Device::expect(int status, const char* operation) const {
  if (status != 0) fail(code::kDevice, ops.name, " ", operation, " failed: ", lastError());
}

}  // namespace octavo
