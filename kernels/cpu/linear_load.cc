// Repacks a checkpoint's linear layer into panels (linear.h), panels in parallel: reading the mapped file is
// what takes the time.
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../int4.h"
#include "context.h"
#include "linear.h"

namespace octavo::cpu {
namespace {

constexpr int64_t kBlock =
    64;  // inputs of 32 rows that are transposed at a time: stays in the first-level cache

// Element `bytes` wide (2 or 4): rows of the checkpoint become columns of the panel.
template <class Element>
void packDense(const CpuLinear& linear, const LinearSource& source, int64_t p, unsigned char* panel) {
  auto* out = reinterpret_cast<Element*>(panel);
  const unsigned char* rows[kPanel];
  for (int c = 0; c < kPanel; ++c) {
    int64_t n = linear.outputOf(p, c);
    rows[c] = nullptr;
    if (n < 0) continue;
    const LinearPart& part = partOf(source, n);
    rows[c] = static_cast<const unsigned char*>(part.weight.data) +
              static_cast<size_t>(n * source.k) * sizeof(Element);
  }
  for (int64_t first = 0; first < source.k; first += kBlock) {
    const int64_t last = first + kBlock < source.k ? first + kBlock : source.k;
    for (int c = 0; c < kPanel; ++c) {
      if (!rows[c]) continue;
      for (int64_t k = first; k < last; ++k)
        std::memcpy(out + k * kPanel + c, rows[c] + static_cast<size_t>(k) * sizeof(Element),
                    sizeof(Element));
    }
  }
}

// Parts of one linear may differ in type: then the panel is f32.
void packMixed(const CpuLinear& linear, const LinearSource& source, int64_t p, unsigned char* panel) {
  auto* out = reinterpret_cast<float*>(panel);
  for (int c = 0; c < kPanel; ++c) {
    int64_t n = linear.outputOf(p, c);
    if (n < 0) continue;
    const LinearPart& part = partOf(source, n);
    for (int64_t k = 0; k < source.k; ++k)
      out[k * kPanel + c] = readFloat(part.weight.data, part.weight.dtype, n * source.k + k);
  }
}

// Eight codes, the first in the lowest nibble, as linear.h has them in a word.
uint32_t interleave(uint32_t codes) {
  const auto spread = [](uint32_t four) {
    four = (four | four << 8) & 0x00ff00ffu;
    return (four | four << 4) & 0x0f0f0f0fu;
  };
  return spread(codes & 0xffffu) | spread(codes >> 16) << 4;
}

// Codes of one group and output, to every kPanel-th word from `out`.
void packCodes(const CpuLinear& linear, const Int4Part& part, int64_t group, int64_t n, uint32_t* out) {
  const int64_t first = group * linear.groupSize;
  for (int64_t word = 0; word < linear.groupWords; ++word) {
    if (linear.groupSize % 8 == 0) {
      out[word * kPanel] = interleave(part.codes8(first / 8 + word, n));
      continue;
    }
    uint32_t codes = 0;
    for (int64_t i = 0; i < 8 && word * 8 + i < linear.groupSize; ++i)
      codes |= part.code(first + word * 8 + i, n) << (4 * i);
    out[word * kPanel] = interleave(codes);
  }
}

// The same for AwqInt4 and eight outputs from n on, which lie side by side in the panel.
void packAwqCodes(const CpuLinear& linear, const Int4Part& part, int64_t group, int64_t n, uint32_t* out) {
  const int64_t first = group * linear.groupSize / 8;
  for (int64_t word = 0; word < linear.groupWords; ++word) {
    uint32_t* eight = out + word * kPanel;
    part.awqCodes8(first + word, n, eight);
    for (int column = 0; column < 8; ++column) eight[column] = interleave(eight[column]);
  }
}

void packInt4(const CpuLinear& linear, const LinearSource& source, int64_t p, unsigned char* panel) {
  // N of every part of AwqInt4 is a multiple of 8, so eights of columns never straddle two.
  const bool eights = source.scheme == LinearScheme::AwqInt4 && linear.groupSize % 8 == 0;
  for (int c = 0; c < kPanel; ++c) {
    int64_t n = linear.outputOf(p, c);
    if (n < 0) continue;
    const LinearPart& part = partOf(source, n);
    const Int4Part view(source, part);
    for (int64_t group = 0; group < linear.groups; ++group) {
      unsigned char* header = panel + static_cast<size_t>(group) * linear.groupHeaderBytes();
      if (linear.halfScales) {
        reinterpret_cast<uint16_t*>(header)[c] = floatToHalf(view.scale(group, n));
      } else {
        reinterpret_cast<float*>(header)[c] = view.scale(group, n);
      }
      header[linear.scaleBytes() + static_cast<size_t>(c)] = static_cast<unsigned char>(view.zero(group, n));
      uint32_t* codes = reinterpret_cast<uint32_t*>(panel + linear.headerBytes()) +
                        static_cast<size_t>(group) * linear.groupCodes() + c;
      if (!eights) {
        packCodes(linear, view, group, n, codes);
      } else if (c % 8 == 0) {
        packAwqCodes(linear, view, group, n, codes);
      }
    }
  }
}

bool sameTypes(const LinearSource& source) {
  for (int32_t i = 1; i < source.numParts; ++i) {
    if (source.parts[i].weight.dtype != source.parts[0].weight.dtype) return false;
  }
  return true;
}

void packPanel(CpuLinear* linear, const LinearSource& source, int64_t p) {
  unsigned char* panel = linear->data.data() + static_cast<size_t>(p) * linear->panelBytes;
  if (linear->type == PanelType::Int4) {
    packInt4(*linear, source, p, panel);
  } else if (!sameTypes(source)) {
    packMixed(*linear, source, p, panel);
  } else if (linear->type == PanelType::F32) {
    packDense<uint32_t>(*linear, source, p, panel);
  } else {
    packDense<uint16_t>(*linear, source, p, panel);
  }
  for (int c = 0; c < kPanel; ++c) {
    int64_t n = linear->outputOf(p, c);
    if (n < 0) continue;
    const LinearPart& part = partOf(source, n);
    if (part.bias.data)
      linear->bias[static_cast<size_t>(p * kPanel + c)] = readFloat(part.bias.data, part.bias.dtype, n);
  }
}

// Weights are walked from end to end: with pages of 2 MiB the processor looks up few addresses. Advice only,
// to be given before the first touch.
void adviseHugePages(unsigned char* data, size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kHuge = uintptr_t(1) << 21;
  const auto begin = (reinterpret_cast<uintptr_t>(data) + kHuge - 1) / kHuge * kHuge;
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / kHuge * kHuge;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  static_cast<void>(data), static_cast<void>(bytes);
#endif
}

}  // namespace

void describeLinear(CpuLinear* linear, const LinearSource& source) {
  linear->k = source.k;
  linear->n = source.n;
  linear->siluMulPairs = source.siluMulPairs != 0;
  linear->panels = linear->siluMulPairs ? (source.n / 2 + kPanel / 2 - 1) / (kPanel / 2)
                                        : (source.n + kPanel - 1) / kPanel;
  if (source.scheme == LinearScheme::Dense) {
    const DType dtype = sameTypes(source) ? source.parts[0].weight.dtype : DType::F32;
    linear->type = dtype == DType::F16    ? PanelType::F16
                   : dtype == DType::BF16 ? PanelType::BF16
                                          : PanelType::F32;
    linear->panelBytes = static_cast<size_t>(source.k) * kPanel * dtypeSize(dtype);
    return;
  }
  linear->type = PanelType::Int4;
  linear->groupSize = source.groupSize;
  linear->groups = source.k / source.groupSize;
  linear->groupWords = (source.groupSize + 7) / 8;
  linear->halfScales = true;
  for (int32_t i = 0; i < source.numParts; ++i)
    linear->halfScales = linear->halfScales && source.parts[i].scales.dtype == DType::F16;
  linear->panelBytes =
      linear->headerBytes() + static_cast<size_t>(linear->groups) * linear->groupCodes() * sizeof(uint32_t);
}

Linear* loadLinear(Context* context, const LinearSource* source) {
  if (!checkLinearSource(context, *source)) return nullptr;
  auto* linear = new (std::nothrow) CpuLinear;
  if (linear) describeLinear(linear, *source);
  if (!linear || !linear->data.allocateWeights(static_cast<size_t>(linear->panels) * linear->panelBytes) ||
      !linear->bias.allocate(static_cast<size_t>(linear->panels) * kPanel)) {
    context->fail("no memory for a linear of %lld x %lld", static_cast<long long>(source->n),
                  static_cast<long long>(source->k));
    delete linear;
    return nullptr;
  }
  if (linear->type == PanelType::Int4 && context->options.int8Activations &&
      !self(context)->int8Rows.reserve(*linear, context->options.maxRows)) {
    context->fail("no memory for 8-bit activations of %lld inputs", static_cast<long long>(source->k));
    delete linear;
    return nullptr;
  }
  adviseHugePages(linear->data.data(), linear->data.size());
  self(context)->pool.run(linear->panels, [&](int64_t p, int) { packPanel(linear, *source, p); });
  linear->next = context->linears;
  context->linears = linear;
  return linear;
}

size_t linearBytes(const LinearSource* source) {
  CpuLinear linear;
  describeLinear(&linear, *source);
  return static_cast<size_t>(linear.panels) * (linear.panelBytes + kPanel * sizeof(float));
}

}  // namespace octavo::cpu
