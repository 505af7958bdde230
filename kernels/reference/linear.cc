// Linear layers: y = x W^T + bias, W dense or INT4 (w = (q - z) s), with the epilogues of ops.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include "../int4.h"
#include "../int8_activations.h"
#include "reference.h"

namespace octavo::reference {
namespace {

bool allocateLinear(ReferenceContext* context, ReferenceLinear* linear, const LinearSource& source) {
  const auto n = static_cast<size_t>(source.n), k = static_cast<size_t>(source.k);
  if (!linear->bias.allocate(n)) return false;
  if (context->roundedCodes.size() < k &&
      !(context->roundedCodes.allocate(k) && context->roundedScales.allocate(k)))
    return false;
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

// Rounds the inputs [first, last) of a row, which share a scale.
void roundBlock(ReferenceContext* context, const float* x, int64_t first, int64_t last) {
  float largest = 0;
  bool finite = true;
  for (int64_t k = first; k < last; ++k) {
    finite = finite && std::isfinite(x[k]);
    largest = std::fmax(largest, std::fabs(x[k]));
  }
  const bool counts = finite && largest >= kSmallestMagnitude;
  const float inverse = counts ? 127.0f / largest : 0.0f;
  const float scale = !finite ? std::numeric_limits<float>::quiet_NaN() : counts ? largest / 127.0f : 0.0f;
  for (int64_t k = first; k < last; ++k) {
    context->roundedCodes[static_cast<size_t>(k)] =
        counts ? static_cast<int32_t>(std::nearbyintf(x[k] * inverse)) : 0;
    context->roundedScales[static_cast<size_t>(k)] = scale;
  }
}

// The first input after `k` that has another scale, or the end of the row.
int64_t scaleEnd(const ReferenceLinear& linear, int64_t k) {
  const int64_t span = int8ScaleSpan(linear.groupSize);
  const int64_t group = linear.groupSize < span ? linear.k : linear.groupSize;  // counted from its start
  const int64_t start = k / group * group;
  const int64_t end = start + ((k - start) / span + 1) * span;
  return std::min(end, start + group);
}

void roundRow(ReferenceContext* context, const ReferenceLinear& linear, const float* x) {
  for (int64_t k = 0; k < linear.k;) {
    const int64_t end = scaleEnd(linear, k);
    roundBlock(context, x, k, end);
    k = end;
  }
}

// One output of the row that was rounded last, in the order and precision of int8_activations.h.
float dotInt8(ReferenceContext* context, const ReferenceLinear& linear, int64_t n) {
  float total = 0;
  const int64_t groups = linear.k / linear.groupSize;
  for (int64_t g = 0; g < groups; ++g) {
    float dots = 0, values = 0;
    const int64_t last = (g + 1) * linear.groupSize;
    for (int64_t k = g * linear.groupSize; k < last;) {
      const int64_t end = std::min(scaleEnd(linear, k), last);
      const float scale = context->roundedScales[static_cast<size_t>(k)];
      int32_t products = 0, sum = 0;
      for (; k < end; ++k) {
        const int32_t value = context->roundedCodes[static_cast<size_t>(k)];
        products += linear.codes[static_cast<size_t>(n * linear.k + k)] * value;
        sum += value;
      }
      dots = dots + scale * static_cast<float>(products);
      values = values + scale * static_cast<float>(sum);
    }
    const auto at = static_cast<size_t>(n * groups + g);
    total = total + linear.scales[at] * (dots - linear.zeros[at] * values);
  }
  return total + linear.bias[static_cast<size_t>(n)];
}

// The whole op with 8-bit activations; in float, as the cpu backend has it.
void linearInt8(ReferenceContext* context, const LinearArgs& args, const ReferenceLinear& weight) {
  for (int32_t row = 0; row < args.rows; ++row) {
    float* out = rowOf(args.out, row);
    roundRow(context, weight, rowOf(args.in, row));
    const bool pairs = args.epilogue == Epilogue::SiluMul;
    const int64_t width = pairs ? weight.n / 2 : weight.n;
    for (int64_t n = 0; n < width; ++n) {
      const float y = dotInt8(context, weight, n);
      if (pairs) {
        out[n] = static_cast<float>(silu(y) * dotInt8(context, weight, width + n));
      } else {
        out[n] = args.epilogue == Epilogue::Add ? out[n] + y : y;
      }
    }
  }
}

}  // namespace

Linear* loadLinear(Context* context, const LinearSource* source) {
  if (!checkLinearSource(context, *source)) return nullptr;
  auto* linear = new (std::nothrow) ReferenceLinear;
  if (!linear || !allocateLinear(self(context), linear, *source)) {
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

int linear(Context* context, const LinearArgs* args) {
  const auto& weight = *static_cast<const ReferenceLinear*>(args->weight);
  if (weight.groupSize > 0 && context->options.int8Activations) {
    linearInt8(self(context), *args, weight);
    return 0;
  }
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
