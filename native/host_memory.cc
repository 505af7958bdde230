#include "host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "../kernels/control_groups.h"

namespace octavo {

namespace {

// The number after `key` in a file of "key number" lines; false when there is none.
bool readField(const std::string& path, const std::string& key, uint64_t* value) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    if (words >> name && name == key) return static_cast<bool>(words >> *value);
  }
  return false;
}

// A file that holds one number ("max" is none).
bool readNumber(const std::string& path, uint64_t* value) {
  std::ifstream file(path);
  return static_cast<bool>(file >> *value);
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // key in memory.stat: page cache that goes first under pressure
};

constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file"};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};

// Limits above the machine's memory (v1 writes 2^63 for none) bound nothing.
void boundByGroup(const ControlGroup& group, HostMemory* memory) {
  const GroupFiles& files = group.version == 2 ? kVersion2 : kVersion1;
  uint64_t limit = 0, usage = 0, reclaimable = 0;
  if (readNumber(group.folder + files.limit, &limit) && limit < memory->total) memory->total = limit;
  if (limit == 0 || !readNumber(group.folder + files.usage, &usage)) return;
  readField(group.folder + "memory.stat", files.reclaimable, &reclaimable);
  const uint64_t used = usage - std::min(usage, reclaimable);
  memory->available = std::min(memory->available, limit - std::min(limit, used));
}

}  // namespace

HostMemory readHostMemory() {
  HostMemory memory;
  const long pages = sysconf(_SC_PHYS_PAGES), pageBytes = sysconf(_SC_PAGESIZE);
  memory.total = pages > 0 && pageBytes > 0 ? uint64_t(pages) * uint64_t(pageBytes) : 0;
  memory.available = memory.total;
  uint64_t kib = 0;
  if (readField("/proc/meminfo", "MemAvailable:", &kib)) memory.available = kib * 1024;
  eachControlGroup("", "memory", [&](const ControlGroup& group) { boundByGroup(group, &memory); });
  return memory;
}

}  // namespace octavo
