// out = a + b.
#include "reference.h"

namespace octavo::reference {

int add(Context*, const AddArgs* args) {
  for (int32_t row = 0; row < args->rows; ++row) {
    for (int32_t i = 0; i < args->width; ++i)
      rowOf(args->out, row)[i] = rowOf(args->a, row)[i] + rowOf(args->b, row)[i];
  }
  return 0;
}

}  // namespace octavo::reference
