// Gated activation [Shazeer 2020, SwiGLU]: out = silu(gate) * up, in = [gate, up].
#include "reference.h"

namespace octavo::reference {

int siluMul(Context*, const SiluMulArgs* args) {
  for (int32_t row = 0; row < args->rows; ++row) {
    const float* gate = rowOf(args->in, row);
    const float* up = gate + args->width;
    float* out = rowOf(args->out, row);
    for (int32_t i = 0; i < args->width; ++i) out[i] = static_cast<float>(silu(gate[i]) * up[i]);
  }
  return 0;
}

}  // namespace octavo::reference
