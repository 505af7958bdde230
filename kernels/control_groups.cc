#include "control_groups.h"

#include <algorithm>
#include <fstream>

namespace octavo {

namespace {

// Cores that one group allows; 0: no limit.
long long coresOf(const ControlGroup& group) {
  long long quota = 0, period = 0;
  if (group.version == 2) {
    std::ifstream file(group.folder + "cpu.max");  // "max 100000" or "150000 100000"
    if (!(file >> quota >> period)) return 0;
  } else if (!(std::ifstream(group.folder + "cpu.cfs_quota_us") >> quota) ||
             !(std::ifstream(group.folder + "cpu.cfs_period_us") >> period)) {
    return 0;
  }
  if (quota <= 0 || period <= 0) return 0;  // v1 writes -1 for none
  return quota / period + (quota % period != 0);
}

}  // namespace

void eachControlGroup(const std::string& root, const std::string& controller,
                      const std::function<void(const ControlGroup&)>& visit) {
  // Lines are "id:controllers:path"; v2's is "0::/path".
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const int version = controllers.empty() ? 2 : 1;
    if (version == 1 && ("," + controllers + ",").find("," + controller + ",") == std::string::npos) continue;
    std::string path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') path = "/" + path;
    if (path == "/") path.clear();
    // "/../.." names a group outside of this namespace: its files are not here.
    if (path.find("..") != std::string::npos) path.clear();
    const std::string mounted = root + "/sys/fs/cgroup" + (version == 1 ? "/" + controller : "");
    for (;;) {
      visit({mounted + path + "/", version});
      if (path.empty()) break;
      path.erase(path.find_last_of('/'));
    }
  }
}

int quotaCores(const std::string& root) {
  constexpr long long kMost = 1 << 20;
  long long cores = 0;
  eachControlGroup(root, "cpu", [&](const ControlGroup& group) {
    const long long allowed = std::min(coresOf(group), kMost);
    if (allowed > 0 && (cores == 0 || allowed < cores)) cores = allowed;
  });
  return static_cast<int>(cores);
}

}  // namespace octavo
