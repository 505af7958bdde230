// out[row] = in[index[row]]: the rows whose logits are needed.
#include <cstring>

#include "context.h"

namespace octavo::cpu {

int gatherRows(Context*, const GatherRowsArgs* args) {
  const size_t bytes = static_cast<size_t>(args->width) * sizeof(float);
  for (int32_t row = 0; row < args->rows; ++row)
    std::memcpy(rowOf(args->out, row), rowOf(args->in, args->index[row]), bytes);
  return 0;
}

}  // namespace octavo::cpu
