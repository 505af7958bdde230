#include "host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

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

// Bounds `memory` by the group at root + path and by every group above it.
void boundByGroups(const std::string& root, std::string path, const GroupFiles& files, HostMemory* memory) {
  for (;;) {
    const std::string folder = root + path + "/";
    uint64_t limit = 0, usage = 0, reclaimable = 0;
    // Limits above the machine's memory (v1 writes 2^63 for none) bound nothing.
    if (readNumber(folder + files.limit, &limit) && limit < memory->total) memory->total = limit;
    if (limit > 0 && readNumber(folder + files.usage, &usage)) {
      readField(folder + "memory.stat", files.reclaimable, &reclaimable);
      const uint64_t used = usage - std::min(usage, reclaimable);
      memory->available = std::min(memory->available, limit - std::min(limit, used));
    }
    if (path.empty()) return;
    path.erase(path.find_last_of('/'));
  }
}

}  // namespace

HostMemory readHostMemory() {
  HostMemory memory;
  const long pages = sysconf(_SC_PHYS_PAGES), pageBytes = sysconf(_SC_PAGESIZE);
  memory.total = pages > 0 && pageBytes > 0 ? uint64_t(pages) * uint64_t(pageBytes) : 0;
  memory.available = memory.total;
  uint64_t kib = 0;
  if (readField("/proc/meminfo", "MemAvailable:", &kib)) memory.available = kib * 1024;
  // Lines are "id:controllers:path"; v2's is "0::/path".
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') path = "/" + path;
    if (path == "/") path.clear();
    // "/../.." names a group outside of this namespace: its files are not here.
    if (path.find("..") != std::string::npos) path.clear();
    if (controllers.empty()) boundByGroups("/sys/fs/cgroup", path, kVersion2, &memory);
    if (("," + controllers + ",").find(",memory,") != std::string::npos)
      boundByGroups("/sys/fs/cgroup/memory", path, kVersion1, &memory);
  }
  return memory;
}

}  // namespace octavo
