// Token embedding: out[row] = table[ids[row]] * scale. The table may be read in place from a mapped file.
#include "context.h"

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

// Lanes are loaded byte-wise: a mapped tensor need not be aligned for its type.
void embedRow(const void* table, DType dtype, int64_t start, float* out, int32_t width, float scale) {
  const V factor = set1(scale);
  const auto* bytes =
      static_cast<const unsigned char*>(table) + start * static_cast<int64_t>(dtypeSize(dtype));
  int32_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    uint16_t half[kLanes];
    float full[kLanes];
    V value;
    if (dtype == DType::F32) {
      std::memcpy(full, bytes + i * 4, sizeof full);
      value = load(full);
    } else {
      std::memcpy(half, bytes + i * 2, sizeof half);
      value = dtype == DType::F16 ? loadHalf(half) : loadBf16(half);
    }
    store(out + i, mul(value, factor));
  }
  for (; i < width; ++i) out[i] = readFloat(bytes, dtype, i) * scale;
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_KERNEL_FILE "embed.cc"
#include "foreach_isa.h"

namespace octavo::cpu {

int embed(Context* context, const EmbedArgs* args) {
  const auto kernel = OCTAVO_SELECT(self(context)->isa, embedRow);
  const Dense& table = *args->table;
  forRows(self(context), args->rows, args->width, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row)
      kernel(table.data, table.dtype, args->ids[row] * table.cols, rowOf(args->out, row), args->width,
             args->scale);
  });
  return 0;
}

}  // namespace octavo::cpu
#endif
