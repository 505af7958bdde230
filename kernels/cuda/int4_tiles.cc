#include "int4_tiles.h"

#include "../half.h"
#include "../int4.h"
#include "../ops.h"

namespace octavo::cuda {
namespace {

int64_t roundUp(int64_t value, int64_t to) {
  return (value + to - 1) / to * to;
}

// One padded column of the tile form: where it comes from.
struct Column {
  const LinearPart* part = nullptr;  // null: padding
  int64_t n = 0;                     // within the part
};

Column sourceColumn(const LinearSource& source, int64_t column) {
  if (source.siluMulPairs) {
    const LinearPart& part = source.parts[column % 16 / 8];
    const int64_t n = column / 16 * 8 + column % 8;
    return n < part.n ? Column{&part, n} : Column{};
  }
  if (column >= source.n) return {};
  int64_t n = column;
  const LinearPart& part = partOf(source, n);
  return {&part, n};
}

// Adds the codes of one column, all of K, to its slab.
void packColumn(const LinearSource& source, const Int4Shape& shape, int64_t column, const Column& from,
                Words4* codes) {
  const Int4Part view(source, *from.part);
  const int64_t slab = column / kInt4Slab, slabs = shape.n / kInt4Slab;
  const int j = static_cast<int>(column % kInt4Slab / 16), inWord = static_cast<int>(column % 16);
  for (int64_t word = 0; word * 8 < source.k; ++word) {
    const uint32_t eight = view.codes8(word, from.n);  // inputs 8 word .. 8 word + 7
    for (int i = 0; i < 8 && word * 8 + i < source.k; ++i) {
      const int64_t k = word * 8 + i;
      const int inTile = static_cast<int>(k % 16), t = inTile % 8 / 2;
      // Bit 0: inputs 8..15; bit 1: columns 8..15; bit 2: the odd input of a pair (int4_tiles.h).
      const int nibble = (inTile >= 8 ? 1 : 0) + (inWord >= 8 ? 2 : 0) + (inTile % 2 ? 4 : 0);
      Words4& lane = codes[(k / 16 * slabs + slab) * 32 + inWord % 8 * 4 + t];
      lane.x[j] |= (eight >> (4 * i) & 15u) << (4 * nibble);
    }
  }
}

void packGroups(const LinearSource& source, const Int4Shape& shape, int64_t column, const Column& from,
                Half* scales, uint8_t* zeros) {
  const Int4Part view(source, *from.part);
  for (int64_t group = 0; group * shape.groupSize < source.k; ++group) {
    const int64_t sourceGroup = group * shape.groupSize / source.groupSize;
    const int64_t at = (group * (shape.n / kInt4Slab) + column / kInt4Slab) * kInt4Slab + column % 8 * 8 +
                       column % kInt4Slab / 8;
    scales[at].bits = floatToHalf(view.scale(sourceGroup, from.n));
    zeros[at] = static_cast<uint8_t>(view.zero(sourceGroup, from.n));
  }
}

void clearSlab(const Int4Shape& shape, int64_t slab, Words4* codes, Half* scales, uint8_t* zeros) {
  const int64_t slabs = shape.n / kInt4Slab;
  for (int64_t tile = 0; tile < shape.k / 16; ++tile) {
    for (int lane = 0; lane < 32; ++lane) codes[(tile * slabs + slab) * 32 + lane] = Words4{};
  }
  for (int64_t group = 0; group < shape.k / shape.groupSize; ++group) {
    for (int i = 0; i < kInt4Slab; ++i) {
      scales[(group * slabs + slab) * kInt4Slab + i] = Half{0};
      zeros[(group * slabs + slab) * kInt4Slab + i] = 0;
    }
  }
}

}  // namespace

Int4Shape int4Shape(const LinearSource& source) {
  const int g = source.groupSize;
  const int group = g == 32 || g == 64 ? g : g > 0 && g % 128 == 0 ? 128 : 0;
  // Interleaved pairs are padded as pairs: a gate block of 8 and its up block always lie in the same 16.
  const int64_t n = source.siluMulPairs ? 2 * roundUp(source.parts[0].n, 8) : source.n;
  return {static_cast<int>(roundUp(n, kInt4PadN)), static_cast<int>(roundUp(source.k, kInt4PadK)), group};
}

void packInt4(const LinearSource& source, const Int4Shape& shape, int firstSlab, int lastSlab, Words4* codes,
              Half* scales, uint8_t* zeros, Half* bias) {
  for (int64_t slab = firstSlab; slab < lastSlab; ++slab) {
    clearSlab(shape, slab, codes, scales, zeros);
    for (int64_t column = slab * kInt4Slab; column < (slab + 1) * kInt4Slab; ++column) {
      const Column from = sourceColumn(source, column);
      if (bias) bias[column] = Half{0};
      if (!from.part) continue;
      packColumn(source, shape, column, from, codes);
      packGroups(source, shape, column, from, scales, zeros);
      if (bias && from.part->bias.data)
        bias[column].bits = floatToHalf(readFloat(from.part->bias.data, from.part->bias.dtype, from.n));
    }
  }
}

}  // namespace octavo::cuda
