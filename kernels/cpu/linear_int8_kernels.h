// The kernels of linear_int8.cc, compiled once per instruction set.
#include "linear_panel.h"

namespace octavo::cpu::OCTAVO_ISA {
namespace {

// ---- rounding rows ----

// Rounds the inputs of one scale: `count` <= 32 of them from x on to codes [32], zeros beyond `count`.
// Returns the scale; `sum` becomes the sum of the codes.
float roundBlock(const float* x, int count, int8_t* codes, int32_t* sum) {
  alignas(64) float part[kInt8Block];
  if (count < kInt8Block) {
    for (int i = 0; i < kInt8Block; ++i) part[i] = i < count ? x[i] : 0.0f;
    x = part;
  }
  const I magnitudeBits = setInt(0x7fffffff);
  V largest = zero(), undefined = zero();  // x - x: NaN where x is not finite
#pragma GCC unroll 8
  for (int i = 0; i < kInt8Block; i += kLanes) {
    const I bits = loadInt(reinterpret_cast<const uint32_t*>(x) + i);
    largest = max(bitsToV(andInt(bits, magnitudeBits)), largest);
    undefined = add(undefined, sub(bitsToV(bits), bitsToV(bits)));
  }
  const bool finite = lessBits(undefined, set1(1.0f)) == (uint64_t(1) << kLanes) - 1;
  const float top = finite ? highestLane(largest) : 0.0f;
  const bool counts = finite && top >= kSmallestMagnitude;
  const V inverse = set1(counts ? 127.0f / top : 0.0f);
  I sums = zeroInt();
#pragma GCC unroll 8
  for (int i = 0; i < kInt8Block; i += kLanes) {
    const I code = counts ? roundToInt(mul(load(x + i), inverse)) : zeroInt();
    storeBytes(codes + i, code);
    sums = addInt(sums, code);
  }
  *sum = sumOfLanes(sums);
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  return counts ? top / 127.0f : 0.0f;
}

// A row whose groups are whole blocks, or blocks with a shorter last one.
void roundGroups(const CpuLinear& weight, const Int8Layout& layout, const float* x, int8_t* codes,
                 float* scales, float* sums) {
  for (int64_t g = 0; g < weight.groups; ++g, x += weight.groupSize, codes += layout.groupCodes) {
    float total = 0;
    for (int64_t i = 0; i < weight.groupSize; i += kInt8Block) {
      const int64_t left = weight.groupSize - i;
      int8_t block[kInt8Block];
      const bool whole = left >= kInt8Block;
      int32_t sum = 0;
      const float scale =
          roundBlock(x + i, static_cast<int>(whole ? kInt8Block : left), whole ? codes + i : block, &sum);
      if (!whole) std::memcpy(codes + i, block, static_cast<size_t>(layout.groupCodes - i));
      *scales++ = scale;
      total = total + scale * static_cast<float>(sum);
    }
    sums[g] = total;
  }
}

// A row in which 32 inputs, one scale, are several groups.
void roundSharedScales(const CpuLinear& weight, const Int8Layout& layout, const float* x, int8_t* codes,
                       float* scales, float* sums) {
  const int64_t shared = kInt8Block / weight.groupSize;
  for (int64_t first = 0; first < weight.groups; first += shared) {
    const int64_t count = weight.groups - first < shared ? weight.groups - first : shared;
    int8_t block[kInt8Block];
    int32_t ignored = 0;
    const float scale =
        roundBlock(x + first * weight.groupSize, static_cast<int>(count * weight.groupSize), block, &ignored);
    for (int64_t g = 0; g < count; ++g, codes += layout.groupCodes) {
      std::memset(codes, 0, static_cast<size_t>(layout.groupCodes));
      std::memcpy(codes, block + g * weight.groupSize, static_cast<size_t>(weight.groupSize));
      int32_t sum = 0;
      for (int64_t i = 0; i < weight.groupSize; ++i) sum += codes[i];
      scales[first + g] = scale;
      sums[first + g] = scale * static_cast<float>(sum);
    }
  }
}

void roundRow(const CpuLinear& weight, const Int8Layout& layout, const float* x, int8_t* codes, float* scales,
              float* sums) {
  if (weight.groupSize < int8ScaleSpan(weight.groupSize)) {
    roundSharedScales(weight, layout, x, codes, scales, sums);
  } else {
    roundGroups(weight, layout, x, codes, scales, sums);
  }
}

// ---- multiplying ----

// One group of one panel and the rows that meet it. Pointers are at the group and at the first row.
struct ByteGroup {
  const uint32_t* codes;  // packed: [words][32]; else [words][2][32]
  int64_t words;
  const Int8Layout* layout;
  const int8_t* x;      // [rows][codeStride]
  const float* scales;  // [rows][scaleStride]
  const float* sums;    // [rows][sumStride]
  const CpuLinear* weight;
  const unsigned char* panel;
  int64_t group;
  float* totals;  // [rows][32]
};

// What is read in a moment: codes come from memory, and no processor guesses enough of them by itself.
constexpr int kLineWords = 16;
template <int kAheadBytes = kPrefetchBytes>
inline void prefetch(const uint32_t* codes) {
  __builtin_prefetch(reinterpret_cast<const char*>(codes) + kAheadBytes);
}

// Adds the dot products of `words` words (8 inputs each) from the codes and values given.
template <int kRows, int kVectorCount, bool kPacked>
inline void dotWords(const uint32_t* codes, const int8_t* x, int64_t stride, int64_t words,
                     I (&sums)[kRows][kVectorCount]) {
  const I low = setInt(0x0f0f0f0f);
#pragma GCC unroll 4
  for (int64_t w = 0; w < words; ++w) {
    if (kPacked) {
#pragma GCC unroll 2
      for (int c = 0; c < kVectorCount * kLanes; c += kLineWords) prefetch(codes + w * kPanel + c);
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      I four[kVectorCount];
#pragma GCC unroll 8
      for (int v = 0; v < kVectorCount; ++v) {
        if (kPacked) {
          const I word = loadInt(codes + w * kPanel + v * kLanes);
          four[v] = andInt(half ? shiftRight<4>(word) : word, low);
        } else {
          four[v] = loadInt(codes + (2 * w + half) * kPanel + v * kLanes);
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        int32_t bytes;
        std::memcpy(&bytes, x + r * stride + w * 8 + half * 4, sizeof bytes);
        const I values = setInt(bytes);
#pragma GCC unroll 8
        for (int v = 0; v < kVectorCount; ++v) sums[r][v] = dotBytes(sums[r][v], four[v], values);
      }
    }
  }
}

// kRows rows and kVectorCount vectors of columns from `column` on: totals += the group's part of each output.
template <int kRows, int kVectorCount, bool kPacked>
void multiplyGroup(const ByteGroup& group, int column) {
  constexpr int kBlockWords = kInt8Block / 8;
  const int64_t stride = group.layout->codeStride;
  V dots[kRows][kVectorCount];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectorCount; ++v) dots[r][v] = zero();
  }
  const uint32_t* codes = group.codes + column;
  const int8_t* x = group.x;
  for (int64_t b = 0, left = group.words; left > 0; ++b, left -= kBlockWords) {
    I sums[kRows][kVectorCount];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectorCount; ++v) sums[r][v] = zeroInt();
    }
    if (left >= kBlockWords) {
      dotWords<kRows, kVectorCount, kPacked>(codes, x, stride, kBlockWords, sums);
    } else {
      for (int64_t w = 0; w < left; ++w)
        dotWords<kRows, kVectorCount, kPacked>(codes + w * kPanel * (kPacked ? 1 : 2), x + w * 8, stride, 1,
                                               sums);
    }
    codes += kBlockWords * kPanel * (kPacked ? 1 : 2);
    x += kInt8Block;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V scale = set1(group.scales[r * group.layout->scaleStride + b]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectorCount; ++v)
        dots[r][v] = add(dots[r][v], mul(scale, intToV(laneSums(sums[r][v]))));
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectorCount; ++v) {
    const int vector = column / kLanes + v;
    const V scale = loadScale(*group.weight, group.panel, group.group, vector);
    const V zeros = loadZero(*group.weight, group.panel, group.group, vector);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      float* total = group.totals + r * kPanel + column + v * kLanes;
      const V values = mul(zeros, set1(group.sums[r * group.layout->sumStride]));
      store(total, add(load(total), mul(scale, sub(dots[r][v], values))));
    }
  }
}

// All columns of `rows` <= kRows rows; one row takes all of them at once.
template <int kRows, bool kPacked>
void multiplyRows(const ByteGroup& group, int rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return multiplyRows<kRows - 1, kPacked>(group, rows);
  }
  constexpr int kColumns = kRows == 1 && kPanel / kLanes <= 4 ? kPanel : kByteColumns;
  for (int column = 0; column < kPanel; column += kColumns)
    multiplyGroup<kRows, kColumns / kLanes, kPacked>(group, column);
}

// ---- one row: decoding ----

// Farther than kPrefetchBytes: nothing but weights needs room in the first cache.
constexpr int kOneRowPrefetchBytes = 16384;

// Dot products of a block of a row with the columns of its packed words [4][32].
template <int kVectors>
inline void dotBlock(const uint32_t* words, const int8_t* x, I (&sums)[kVectors]) {
  const I low = setInt(0x0f0f0f0f), high = setInt(static_cast<int32_t>(0xf0f0f0f0));
  I highSums[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sums[v] = highSums[v] = zeroInt();
#pragma GCC unroll 4
  for (int w = 0; w < kInt8Block / 8; ++w) {
#pragma GCC unroll 2
    for (int c = 0; c < kPanel; c += kLineWords) prefetch<kOneRowPrefetchBytes>(words + w * kPanel + c);
    int32_t lowBytes, highBytes;
    std::memcpy(&lowBytes, x + w * 8, sizeof lowBytes);
    std::memcpy(&highBytes, x + w * 8 + 4, sizeof highBytes);
    const I lowValues = setInt(lowBytes), highValues = setInt(highBytes);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const I word = loadInt(words + w * kPanel + v * kLanes);
      sums[v] = dotBytes(sums[v], andInt(word, low), lowValues);
      if (kDotsHighHalves) {
        highSums[v] = dotBytes(highSums[v], andInt(word, high), highValues);
      } else {
        sums[v] = dotBytes(sums[v], andInt(shiftRight<4>(word), low), highValues);
      }
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    sums[v] = laneSums(sums[v]);
    if (kDotsHighHalves) sums[v] = addInt(sums[v], shiftRightSigned<4>(highSums[v]));
  }
}

// One panel times one row, of groups of whole blocks: what the loops carry stays in registers, and the row's
// codes, scales and sums are read in order.
void multiplyRow(const CpuLinear& weight, const Int8View& view, int64_t row, const unsigned char* panel,
                 float* totals) {
  constexpr int kVectors = kPanel / kLanes;
  const uint32_t* words = groupWords(weight, panel, 0);
  const int8_t* x = view.codes + row * view.layout.codeStride;
  const float* scales = view.scales + row * view.layout.scaleStride;
  const float* values = view.sums + row * view.layout.sumStride;
  const int64_t blocks = view.layout.groupBlocks;
  V total[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) total[v] = zero();
  for (int64_t g = 0; g < weight.groups; ++g) {
    V dots[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) dots[v] = zero();
    for (int64_t b = 0; b < blocks; ++b, words += kInt8Block / 8 * kPanel, x += kInt8Block) {
      I sums[kVectors];
      dotBlock<kVectors>(words, x, sums);
      const V scale = set1(*scales++);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) dots[v] = add(dots[v], mul(scale, intToV(sums[v])));
    }
    const V value = set1(values[g]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V scale = loadScale(weight, panel, g, v);
      total[v] = add(total[v], mul(scale, sub(dots[v], mul(loadZero(weight, panel, g, v), value))));
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) store(totals + v * kLanes, total[v]);
}

void unpack(const uint32_t* words, int64_t count, uint32_t* codes) {
  const I low = setInt(0x0f0f0f0f);
  for (int64_t w = 0; w < count; ++w, words += kPanel, codes += 2 * kPanel) {
    for (int c = 0; c < kPanel; c += kLineWords) prefetch(words + c);
#pragma GCC unroll 8
    for (int c = 0; c < kPanel; c += kLanes) {
      const I word = loadInt(words + c);
      storeInt(codes + c, andInt(word, low));
      storeInt(codes + kPanel + c, andInt(shiftRight<4>(word), low));
    }
  }
}

// One panel and the rows of an item, which begin at row `row` of the view.
void multiplyPanel(const LinearItem& item, const Int8View& view, int64_t row, int64_t p,
                   Int8Scratch* scratch) {
  const CpuLinear& weight = *item.weight;
  const Int8Layout& layout = view.layout;
  if (item.rows == 1 && weight.groupSize % kInt8Block == 0) {
    multiplyRow(weight, view, row, weight.panel(p), scratch->totals);
    return finish(item, p, item.first, 1, scratch->totals);
  }
  ByteGroup group{};
  group.words = weight.groupWords;
  group.layout = &layout;
  group.weight = &weight;
  group.panel = weight.panel(p);
  std::memset(scratch->totals, 0, static_cast<size_t>(item.rows) * kPanel * sizeof(float));
  const bool unpacks = item.rows > kByteRows && weight.groupWords <= kUnpackWords;
  for (int64_t g = 0; g < weight.groups; ++g) {
    group.group = g;
    group.codes = groupWords(weight, group.panel, g);
    if (unpacks) {
      unpack(group.codes, group.words, scratch->codes);
      group.codes = scratch->codes;
    }
    for (int r = 0; r < item.rows; r += kByteRows) {
      group.x = view.codes + (row + r) * layout.codeStride + g * layout.groupCodes;
      group.scales = view.scales + (row + r) * layout.scaleStride + g * layout.groupBlocks;
      group.sums = view.sums + (row + r) * layout.sumStride + g;
      group.totals = scratch->totals + r * kPanel;
      const int rows = item.rows - r < kByteRows ? item.rows - r : kByteRows;
      if (unpacks) {
        multiplyRows<kByteRows, false>(group, rows);
      } else {
        multiplyRows<kByteRows, true>(group, rows);
      }
    }
  }
  finish(item, p, item.first, item.rows, scratch->totals);
}

void linearTile(const LinearItem& item, const Int8View& view, int64_t row, Int8Scratch* scratch) {
  for (int64_t p = item.firstPanel; p < item.lastPanel; ++p) multiplyPanel(item, view, row, p, scratch);
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
