// RMS norm [Zhang and Sennrich 2019], after adding to the residual stream where there is one:
// residual += in; out = residual / sqrt(mean(residual^2) + eps) * weight.
#include "reference.h"

namespace octavo::reference {

int rmsNorm(Context*, const RmsNormArgs* args) {
  for (int32_t row = 0; row < args->rows; ++row) {
    const float* in = rowOf(args->in, row);
    if (args->residual.data) {
      float* residual = rowOf(args->residual, row);
      for (int32_t i = 0; i < args->width; ++i) residual[i] += in[i];
      in = residual;
    }
    double squares = 0;
    for (int32_t i = 0; i < args->width; ++i) squares += static_cast<double>(in[i]) * in[i];
    const double factor = 1.0 / std::sqrt(squares / args->width + args->eps);
    float* out = rowOf(args->out, row);
    for (int32_t i = 0; i < args->width; ++i)
      out[i] = static_cast<float>(in[i] * factor * denseAt(*args->weight, 0, i));
  }
  return 0;
}

}  // namespace octavo::reference
