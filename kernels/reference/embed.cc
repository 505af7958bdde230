// Token embedding: out[row] = table[ids[row]] * scale.
#include "reference.h"

namespace octavo::reference {

int embed(Context*, const EmbedArgs* args) {
  for (int32_t row = 0; row < args->rows; ++row) {
    for (int32_t i = 0; i < args->width; ++i)
      rowOf(args->out, row)[i] = denseAt(*args->table, args->ids[row], i) * args->scale;
  }
  return 0;
}

}  // namespace octavo::reference
