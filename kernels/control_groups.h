// The control groups of this process, through which containers bound what it may take.
#pragma once
#include <functional>
#include <string>

namespace octavo {

// Where `controller` ("memory", "cpu") keeps a group's files.
struct ControlGroup {
  std::string folder;  // with a slash at the end
  int version;         // 1 or 2
};

// Calls `visit` for the process's own group of `controller` and each group above it, v1 and v2: the limits
// of all of them hold at once. Files are looked up under `root`: "" but in tests.
void eachControlGroup(const std::string& root, const std::string& controller,
                      const std::function<void(const ControlGroup&)>& visit);

// Cores' worth of time that the quotas of these groups allow, rounded up; 0: no limit.
int quotaCores(const std::string& root);

}  // namespace octavo
