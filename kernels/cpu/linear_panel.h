// What the matmul kernels share, compiled once per instruction set: the parts of a panel, and what is done
// with finished sums.

namespace octavo::cpu::OCTAVO_ISA {
namespace {

inline const unsigned char* groupHeader(const CpuLinear& weight, const unsigned char* panel, int64_t group) {
  return panel + static_cast<size_t>(group) * weight.groupHeaderBytes();
}

// Scales and zeros of kLanes columns, from column vector * kLanes on.
inline V loadScale(const CpuLinear& weight, const unsigned char* panel, int64_t group, int vector) {
  const unsigned char* header = groupHeader(weight, panel, group);
  if (weight.halfScales) return loadHalf(reinterpret_cast<const uint16_t*>(header) + vector * kLanes);
  return load(reinterpret_cast<const float*>(header) + vector * kLanes);
}

inline V loadZero(const CpuLinear& weight, const unsigned char* panel, int64_t group, int vector) {
  return loadByte(groupHeader(weight, panel, group) + weight.scaleBytes() + vector * kLanes);
}

// [groupWords][32]
inline const uint32_t* groupWords(const CpuLinear& weight, const unsigned char* panel, int64_t group) {
  return reinterpret_cast<const uint32_t*>(panel + weight.headerBytes()) +
         static_cast<size_t>(group) * weight.groupCodes();
}

// Bias and epilogue of `count` rows [count][32] from row `first` on; totals are overwritten.
void finish(const LinearItem& item, int64_t p, int64_t first, int count, float* totals) {
  const CpuLinear& weight = *item.weight;
  const float* bias = weight.bias.data() + p * kPanel;
  const int64_t width = weight.siluMulPairs ? weight.n / 2 : weight.n;
  const int64_t column = p * (weight.siluMulPairs ? kPanel / 2 : kPanel);
  const int64_t room = width - column;
  for (int r = 0; r < count; ++r) {
    float* total = totals + r * kPanel;
    float* out = rowOf(item.out, first + r) + column;
    for (int v = 0; v < kPanel; v += kLanes) store(total + v, add(load(total + v), load(bias + v)));
    if (weight.siluMulPairs) {
      for (int v = 0; v < kPanel / 2; v += kLanes)
        store(total + v, mul(silu(load(total + v)), load(total + kPanel / 2 + v)));
    }
    const int columns = weight.siluMulPairs ? kPanel / 2 : kPanel;
    const int64_t valid = room < columns ? room : columns;
    if (item.epilogue == Epilogue::Add) {
      for (int64_t c = 0; c < valid; ++c) out[c] += total[c];
    } else {
      std::memcpy(out, total, static_cast<size_t>(valid) * sizeof(float));
    }
  }
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
