// The cpu backend's table.
#include "../ops.h"

#include "cpu.h"

namespace octavo {

const Ops* cpuOps() {
  static const Ops ops = [] {
    Ops table = *referenceOps();
    table.name = "cpu";
    return table;
  }();
  return &ops;
}

}  // namespace octavo
