// Backends by name, and what the machine offers them.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "../kernels/ops.h"

namespace octavo {

// What the library of a backend exports: `extern "C" const octavo::Ops* octavoBackendOps()`.
constexpr const char* kBackendSymbol = "octavoBackendOps";

// The table of `device`: a built-in one, or that of liboctavo_<device> beside the addon. Throws
// ERR_OCTAVO_ARGUMENT naming the known devices, ERR_OCTAVO_DEVICE when the table's version is not the one
// this addon was built with.
const Ops& findBackend(const std::string& device);

// Twin of DeviceInfo in src/runner/addon.ts; memory in bytes.
struct DeviceInfo {
  std::string device, description, isa, driver;
  uint64_t totalMemory = 0, availableMemory = 0;
  int32_t threads = 0, processors = 1;
  bool hostMemory = true, graphs = false, tunes = false;
  int32_t activationBytes = 4;
  DType kvCacheDtype = DType::F32;
};

// `threads` 0: one per physical core. Throws ERR_OCTAVO_DEVICE with one line where the backend has no device.
DeviceInfo describeDevice(const std::string& device, int32_t threads);

// Most threads that may be asked for.
constexpr int32_t kMaxThreads = 1024;

// An open context of a backend, and the host memory that its kept weights are read from.
struct Device {
  const Ops& ops;
  Context* context;
  std::shared_ptr<void> keptMemory;  // outlives the context

  Device(const Ops& table, Context* opened) : ops(table), context(opened) {}
  ~Device() { ops.close(context); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  std::string lastError() const;
  // Zeroed device memory; throws ERR_OCTAVO_MEMORY with the bytes asked for and their purpose.
  void* alloc(size_t bytes, const std::string& purpose) const;
  // Throws ERR_OCTAVO_DEVICE with the backend's reason when `status` is not 0.
  void expect(int status, const char* operation) const;
};

}  // namespace octavo
