#include "backend.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
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

#ifdef __APPLE__
constexpr const char* kLibrarySuffix = ".dylib";
#else
constexpr const char* kLibrarySuffix = ".so";
#endif

// The folder of this addon; backends that are libraries of their own lie beside it.
std::string addonFolder() {
  Dl_info self{};
  if (!dladdr(reinterpret_cast<void*>(&addonFolder), &self) || !self.dli_fname) return ".";
  const std::string path = self.dli_fname;
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// The table of the library liboctavo_<device>, or null where there is none. It is never unloaded: runners of
// other threads may be using it.
const Ops* libraryTable(const std::string& device) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  if (device.empty() || device.size() > 64 || !std::all_of(device.begin(), device.end(), plain))
    return nullptr;
  const std::string path = addonFolder() + "/liboctavo_" + device + kLibrarySuffix;
  if (access(path.c_str(), F_OK) != 0) return nullptr;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(code::kDevice, "device ", device, ": ", dlerror());
  const auto table = reinterpret_cast<const Ops* (*)()>(dlsym(library, kBackendSymbol));
  if (!table) fail(code::kDevice, "device ", device, ": expected ", path, " to export ", kBackendSymbol);
  return table();
}

const Ops& checkedTable(const std::string& device, const Ops* ops) {
  if (!ops) fail(code::kDevice, "device ", device, ": expected a table of ops, got none");
  if (ops->abiVersion != kOpsAbiVersion)
    fail(code::kDevice, "device ", device, ": expected ops version ", kOpsAbiVersion, ", got ",
         ops->abiVersion);
  if (ops->activation != DType::F32 && ops->activation != DType::F16)
    fail(code::kDevice, "device ", device, ": expected f32 or f16 activations");
  return *ops;
}

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
    if (device == backend.name) return checkedTable(device, backend.table());
    known += (known.empty() ? "" : ", ") + std::string(backend.name);
  }
  if (const Ops* ops = libraryTable(device)) return checkedTable(device, ops);
  failArgument("device", "one of " + known, "\"" + device + "\"");
}

DeviceInfo describeDevice(const std::string& device, int32_t threads) {
  const Ops& ops = findBackend(device);
  checkRange(threads, 0, kMaxThreads, "threads");
  DeviceInfo info;
  info.device = device;
  info.activationBytes = static_cast<int32_t>(dtypeSize(ops.activation));
  info.kvCacheDtype = ops.kvDefault;
  info.graphs = ops.beginCapture != nullptr;
  info.threads = threads > 0 ? threads : physicalCores();
  info.processors = availableProcessors();
  if (ops.describe) {
    DeviceDescription description{};
    char reason[256] = "";
    if (ops.describe(&description, reason, sizeof reason) != 0)
      fail(code::kDevice, "device ", device, ": ", reason);
    info.description = description.name;
    info.isa = description.isa;
    info.driver = description.driver;
    info.totalMemory = description.totalMemory;
    info.availableMemory = description.freeMemory;
    info.hostMemory = false;
    info.tunes = ops.timeLinear != nullptr && description.measurable != 0;
    return info;
  }
  const HostMemory memory = readHostMemory();
  info.description = processorName();
  info.isa = device == "cpu" ? cpuIsa() : "generic";
  info.totalMemory = memory.total;
  info.availableMemory = memory.available;
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
