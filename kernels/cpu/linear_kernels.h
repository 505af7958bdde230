// The matmul kernels of linear.cc, compiled once per instruction set.
#include "linear_panel.h"

namespace octavo::cpu::OCTAVO_ISA {
namespace {

constexpr int kVectors = kPanel / kLanes;        // vectors of a panel's row
constexpr int kStrips = kPanel / kMicroColumns;  // of a panel, in the blocked matmul
constexpr int kMicroVectors = kMicroColumns / kLanes;

// A second and third pass over a panel that is in cache by then cost less than unpacking it.
int maxDirectRows() {
  return 4 * kDirectRows;
}

// Nibble i of a word, where it stands (bits 4i..4i+3, i < 4), under the exponent that makes the float
// 2^(23 - 4i) + q: then one exact subtraction of 2^(23 - 4i) + zero leaves q - zero.
constexpr float magic(int i) {
  return static_cast<float>(1 << (23 - 4 * i));
}

inline V codeWithMagic(I word, int i) {
  return bitsToV(maskOr(word, setInt(15 << (4 * i)), setInt((127 + 23 - 4 * i) << 23)));
}

// Where the codes of inputs 0..7 of a word are: in the word or in its upper half, and as which nibble.
constexpr bool inUpperHalf(int input) {
  return input % 4 >= 2;
}
constexpr int nibbleOf(int input) {
  return input % 2 * 2 + input / 4;
}

// Codes of one group: subtrahends by nibble position, and where the words start.
struct Group {
  V subtrahend[4][kVectors];
  const uint32_t* words;

  Group(const CpuLinear& weight, const unsigned char* panel, int64_t group)
      : words(groupWords(weight, panel, group)) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V zero = loadZero(weight, panel, group, v);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) subtrahend[i][v] = add(zero, set1(magic(i)));
    }
  }

  // q - zero of an input, from its half of a word.
  V weight(I half, int input, int vector) const {
    return sub(codeWithMagic(half, nibbleOf(input)), subtrahend[nibbleOf(input)][vector]);
  }
};

template <PanelType kType>
inline V loadWeights(const unsigned char* panel, int64_t index) {
  if (kType == PanelType::F32) return load(reinterpret_cast<const float*>(panel) + index);
  const uint16_t* half = reinterpret_cast<const uint16_t*>(panel) + index;
  return kType == PanelType::F16 ? loadHalf(half) : loadBf16(half);
}

// ---- direct: kRows rows from row `first` on, one panel ----

template <int kRows, PanelType kType>
void directDense(const LinearItem& item, int64_t first, const unsigned char* panel, float* totals) {
  constexpr int kRowBytes = kPanel * (kType == PanelType::F32 ? 4 : 2);
  const float* x[kRows];
  V sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    x[r] = rowOf(item.in, first + r);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = zero();
  }
  for (int64_t k = 0; k < item.weight->k; ++k) {
    for (int line = 0; line < kRowBytes; line += 64)
      __builtin_prefetch(panel + k * kRowBytes + line + kPrefetchBytes);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V w = loadWeights<kType>(panel, k * kPanel + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r][v] = fma(set1(x[r][k]), w, sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(totals + r * kPanel + v * kLanes, sum[r][v]);
  }
}

// Adds the eight inputs of `word` from input k on, times their weights.
template <int kRows>
inline void addEightCodes(const Group& group, const I (&word)[kVectors], const float* const (&x)[kRows],
                          int64_t k, V (&sum)[kRows][kVectors]) {
  I upper[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) upper[v] = shiftRight<16>(word[v]);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V w = group.weight(inUpperHalf(i) ? upper[v] : word[v], i, v);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r][v] = fma(set1(x[r][k + i]), w, sum[r][v]);
    }
  }
}

// The codes of a group's last, partly used word: `count` < 8 of them.
template <int kRows>
void addLastCodes(const Group& group, const uint32_t* words, const float* const (&x)[kRows], int64_t k,
                  int count, V (&sum)[kRows][kVectors]) {
  for (int i = 0; i < count; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      const I word = loadInt(words + v * kLanes);
      const V w = group.weight(inUpperHalf(i) ? shiftRight<16>(word) : word, i, v);
      for (int r = 0; r < kRows; ++r) sum[r][v] = fma(set1(x[r][k + i]), w, sum[r][v]);
    }
  }
}

// totals are zero.
template <int kRows>
void directInt4(const LinearItem& item, int64_t first, const unsigned char* panel, float* totals) {
  const CpuLinear& weight = *item.weight;
  const float* x[kRows];
  for (int r = 0; r < kRows; ++r) x[r] = rowOf(item.in, first + r);
  const int64_t fullWords = weight.groupSize / 8;
  const int rest = static_cast<int>(weight.groupSize % 8);
  int64_t k = 0;
  for (int64_t g = 0; g < weight.groups; ++g) {
    const Group group(weight, panel, g);
    V sum[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = zero();
    }
    const uint32_t* words = group.words;
    for (int64_t i = 0; i < fullWords; ++i, words += kPanel, k += 8) {
      I word[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) word[v] = loadInt(words + v * kLanes);
      __builtin_prefetch(reinterpret_cast<const char*>(words) + kPrefetchBytes);
      __builtin_prefetch(reinterpret_cast<const char*>(words + kPanel / 2) + kPrefetchBytes);
      addEightCodes<kRows>(group, word, x, k, sum);
    }
    if (rest) addLastCodes<kRows>(group, words, x, k, rest, sum);
    k += rest;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V scale = loadScale(weight, panel, g, v);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        float* total = totals + r * kPanel + v * kLanes;
        store(total, fma(scale, sum[r][v], load(total)));
      }
    }
  }
}

// Rows [first, first + kRows) of one panel.
template <int kRows>
void directRows(const LinearItem& item, int64_t p, int64_t first) {
  alignas(64) float totals[kRows * kPanel] = {};
  const unsigned char* panel = item.weight->panel(p);
  switch (item.weight->type) {
    case PanelType::F32:
      directDense<kRows, PanelType::F32>(item, first, panel, totals);
      break;
    case PanelType::F16:
      directDense<kRows, PanelType::F16>(item, first, panel, totals);
      break;
    case PanelType::BF16:
      directDense<kRows, PanelType::BF16>(item, first, panel, totals);
      break;
    case PanelType::Int4:
      directInt4<kRows>(item, first, panel, totals);
      break;
  }
  finish(item, p, first, kRows, totals);
}

// `rows` of them, or kRows if there are more.
template <int kRows>
void directUpTo(const LinearItem& item, int64_t p, int64_t first, int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return directUpTo<kRows - 1>(item, p, first, rows);
  }
  directRows<kRows>(item, p, first);
}

void linearDirect(const LinearItem& item) {
  for (int64_t p = item.firstPanel; p < item.lastPanel; ++p) {
    for (int64_t r = 0; r < item.rows; r += kDirectRows)
      directUpTo<kDirectRows>(item, p, item.first + r, item.rows - r);
  }
}

// ---- blocked: up to kBlockRows rows ----

// Inputs [k, k + count) of a dense panel to weights [strips][count][kMicroColumns].
template <PanelType kType>
void unpackDense(const unsigned char* panel, int64_t k, int count, float* weights) {
  for (int strip = 0; strip < kStrips; ++strip) {
    for (int i = 0; i < count; ++i) {
      for (int c = 0; c < kMicroColumns; c += kLanes, weights += kLanes)
        store(weights, loadWeights<kType>(panel, (k + i) * kPanel + strip * kMicroColumns + c));
    }
  }
}

// The same for inputs [offset, offset + count) of an INT4 group, offset a multiple of 8: q - zero, unscaled.
void unpackInt4(const Group& group, int64_t offset, int count, float* weights) {
  for (int strip = 0; strip < kStrips; ++strip) {
    for (int i = 0; i < count; i += 8) {
      const int last = count - i < 8 ? count - i : 8;
      for (int c = 0; c < kMicroVectors; ++c) {
        const int v = strip * kMicroVectors + c;
        const I word = loadInt(group.words + (offset + i) / 8 * kPanel + v * kLanes);
        const I upper = shiftRight<16>(word);
        float* out = weights + (static_cast<int64_t>(strip) * count + i) * kMicroColumns + c * kLanes;
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j) {
          if (j < last) store(out + j * kMicroColumns, group.weight(inUpperHalf(j) ? upper : word, j, v));
        }
      }
    }
  }
}

// One step of the blocked matmul: what a chain of `count` inputs adds to rows x kMicroColumns outputs.
struct MicroStep {
  const float* x;        // [rows][kXStride]
  const float* weights;  // [count][kMicroColumns]
  int count;
  float* chain;                // [rows][32]
  bool begins;                 // the chain starts at zero here
  const unsigned char* panel;  // not null: the chain of `group` ends here, and total += scale * chain
  int64_t group;
  float* total;  // [rows][32]
};

template <int kRows>
void micro(const CpuLinear& weight, const MicroStep& step, int strip) {
  V sum[kRows][kMicroVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kMicroVectors; ++v)
      sum[r][v] = step.begins ? zero() : load(step.chain + r * kPanel + v * kLanes);
  }
  const float* x = step.x;
  const float* w = step.weights;
  for (int k = 0; k < step.count; ++k, ++x, w += kMicroColumns) {
    V columns[kMicroVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kMicroVectors; ++v) columns[v] = load(w + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V value = set1(x[r * kXStride]);
#pragma GCC unroll 4
      for (int v = 0; v < kMicroVectors; ++v) sum[r][v] = fma(value, columns[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kMicroVectors; ++v) {
      if (step.panel) {
        float* total = step.total + r * kPanel + v * kLanes;
        const V scale = loadScale(weight, step.panel, step.group, strip * kMicroVectors + v);
        store(total, fma(scale, sum[r][v], load(total)));
      } else {
        store(step.chain + r * kPanel + v * kLanes, sum[r][v]);
      }
    }
  }
}

// `rows` <= kMicroRows rows.
template <int kRows>
void microRows(const CpuLinear& weight, const MicroStep& step, int strip, int rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return microRows<kRows - 1>(weight, step, strip, rows);
  }
  micro<kRows>(weight, step, strip);
}

// All rows and strips of one panel over the unpacked block in scratch.
void multiplyBlock(const LinearItem& item, BlockScratch* scratch, MicroStep step, float* chain,
                   float* total) {
  for (int strip = 0; strip < kStrips; ++strip) {
    step.weights = scratch->weights + static_cast<int64_t>(strip) * step.count * kMicroColumns;
    for (int r = 0; r < item.rows; r += kMicroRows) {
      const int rows = item.rows - r < kMicroRows ? item.rows - r : kMicroRows;
      step.x = scratch->x + r * kXStride;
      step.chain = chain + r * kPanel + strip * kMicroColumns;
      step.total = total + r * kPanel + strip * kMicroColumns;
      microRows<kMicroRows>(*item.weight, step, strip, rows);
    }
  }
}

// Inputs [k, k + count) of all rows to scratch.
void copyRows(const LinearItem& item, int64_t k, int count, BlockScratch* scratch) {
  for (int r = 0; r < item.rows; ++r)
    std::memcpy(scratch->x + r * kXStride, rowOf(item.in, item.first + r) + k,
                static_cast<size_t>(count) * sizeof(float));
}

void blockedDense(const LinearItem& item, BlockScratch* scratch) {
  const CpuLinear& weight = *item.weight;
  for (int64_t k = 0; k < weight.k; k += kBlockK) {
    MicroStep step{};
    step.count = static_cast<int>(weight.k - k < kBlockK ? weight.k - k : kBlockK);
    step.begins = k == 0;
    copyRows(item, k, step.count, scratch);
    for (int64_t p = item.firstPanel; p < item.lastPanel; ++p) {
      float* total = scratch->total + (p - item.firstPanel) * kBlockRows * kPanel;
      const unsigned char* panel = weight.panel(p);
      if (weight.type == PanelType::F32) {
        unpackDense<PanelType::F32>(panel, k, step.count, scratch->weights);
      } else if (weight.type == PanelType::F16) {
        unpackDense<PanelType::F16>(panel, k, step.count, scratch->weights);
      } else {
        unpackDense<PanelType::BF16>(panel, k, step.count, scratch->weights);
      }
      multiplyBlock(item, scratch, step, total, total);
    }
  }
}

void blockedInt4(const LinearItem& item, BlockScratch* scratch) {
  const CpuLinear& weight = *item.weight;
  for (int64_t p = item.firstPanel; p < item.lastPanel; ++p)
    std::memset(scratch->total + (p - item.firstPanel) * kBlockRows * kPanel, 0,
                static_cast<size_t>(item.rows) * kPanel * sizeof(float));
  for (int64_t g = 0; g < weight.groups; ++g) {
    for (int64_t offset = 0; offset < weight.groupSize; offset += kBlockK) {
      MicroStep step{};
      const int64_t left = weight.groupSize - offset;
      step.count = static_cast<int>(left < kBlockK ? left : kBlockK);
      step.begins = offset == 0;
      copyRows(item, g * weight.groupSize + offset, step.count, scratch);
      for (int64_t p = item.firstPanel; p < item.lastPanel; ++p) {
        const int64_t at = (p - item.firstPanel) * kBlockRows * kPanel;
        unpackInt4(Group(weight, weight.panel(p), g), offset, step.count, scratch->weights);
        step.panel = offset + step.count == weight.groupSize ? weight.panel(p) : nullptr;
        step.group = g;
        multiplyBlock(item, scratch, step, scratch->chain + at, scratch->total + at);
      }
    }
  }
}

void linearBlocked(const LinearItem& item, BlockScratch* scratch) {
  if (item.weight->type == PanelType::Int4) {
    blockedInt4(item, scratch);
  } else {
    blockedDense(item, scratch);
  }
  for (int64_t p = item.firstPanel; p < item.lastPanel; ++p)
    finish(item, p, item.first, item.rows, scratch->total + (p - item.firstPanel) * kBlockRows * kPanel);
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
