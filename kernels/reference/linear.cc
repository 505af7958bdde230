// Linear layers: y = x W^T + bias, W dense or INT4 (w = (q - z) s), with the epilogues of ops.h.
#include "../int4.h"
#include "reference.h"

namespace octavo::reference {
namespace {

bool allocateLinear(ReferenceLinear* linear, const LinearSource& source) {
  const auto n = static_cast<size_t>(source.n), k = static_cast<size_t>(source.k);
  if (!linear->bias.allocate(n)) return false;
  if (source.scheme == LinearScheme::Dense) return linear->weights.allocate(n * k);
  const size_t groups = k / static_cast<size_t>(source.groupSize);
  return linear->codes.allocate(n * k) && linear->scales.allocate(n * groups) &&
         linear->zeros.allocate(n * groups);
}

// Copies output `partN` of `part` to output n of the whole.
void loadOutput(ReferenceLinear* linear, const LinearSource& source, const LinearPart& part, int64_t partN,
                int64_t n) {
  const auto row = static_cast<size_t>(n);
  const auto k = static_cast<size_t>(source.k);
  if (part.bias.data) linear->bias[row] = readFloat(part.bias.data, part.bias.dtype, partN);
  if (source.scheme == LinearScheme::Dense) {
    for (size_t i = 0; i < k; ++i)
      linear->weights[row * k + i] =
          readFloat(part.weight.data, part.weight.dtype, partN * source.k + static_cast<int64_t>(i));
    return;
  }
  const Int4Part view(source, part);
  for (size_t i = 0; i < k; ++i)
    linear->codes[row * k + i] = static_cast<uint8_t>(view.code(static_cast<int64_t>(i), partN));
  const auto groups = static_cast<size_t>(source.k / source.groupSize);
  for (size_t g = 0; g < groups; ++g) {
    linear->scales[row * groups + g] = view.scale(static_cast<int64_t>(g), partN);
    linear->zeros[row * groups + g] = static_cast<float>(view.zero(static_cast<int64_t>(g), partN));
  }
}

// One output of one row.
double dot(const ReferenceLinear& linear, const float* x, int64_t n) {
  double sum = linear.bias[static_cast<size_t>(n)];
  for (int64_t k = 0; k < linear.k; ++k) sum += x[k] * linear.weight(n, k);
  return sum;
}

}  // namespace

Linear* loadLinear(Context* context, const LinearSource* source) {
  if (!checkLinearSource(context, *source)) return nullptr;
  auto* linear = new (std::nothrow) ReferenceLinear;
  if (!linear || !allocateLinear(linear, *source)) {
    context->fail("no memory for a linear of %lld x %lld", static_cast<long long>(source->n),
                  static_cast<long long>(source->k));
    delete linear;
    return nullptr;
  }
  linear->k = source->k;
  linear->n = source->n;
  linear->groupSize = source->scheme == LinearScheme::Dense ? 0 : source->groupSize;
  for (int64_t n = 0; n < source->n; ++n) {
    int64_t partN = n;
    const LinearPart& part = partOf(*source, partN);
    loadOutput(linear, *source, part, partN, n);
  }
  linear->next = context->linears;
  context->linears = linear;
  return linear;
}

size_t linearBytes(const LinearSource* source) {
  const auto n = static_cast<size_t>(source->n), k = static_cast<size_t>(source->k);
  if (source->scheme == LinearScheme::Dense) return n * k * 4 + n * 4;
  return n * k + n * (k / static_cast<size_t>(source->groupSize)) * 8 + n * 4;
}

int linear(Context*, const LinearArgs* args) {
  const auto& weight = *static_cast<const ReferenceLinear*>(args->weight);
  for (int32_t row = 0; row < args->rows; ++row) {
    const float* x = rowOf(args->in, row);
    float* out = rowOf(args->out, row);
    if (args->epilogue == Epilogue::SiluMul) {
      const int64_t half = weight.n / 2;
      for (int64_t n = 0; n < half; ++n)
        out[n] = static_cast<float>(silu(dot(weight, x, n)) * dot(weight, x, half + n));
    } else {
      for (int64_t n = 0; n < weight.n; ++n) {
        const double before = args->epilogue == Epilogue::Add ? out[n] : 0.0;
        out[n] = static_cast<float>(before + dot(weight, x, n));
      }
    }
  }
  return 0;
}

}  // namespace octavo::reference
