#include "intrinsics.h"

#include "../../half.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace octavo::cuda {

#if defined(__F16C__)
uint16_t halfBits(float value) {
  return static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
}
float halfValue(uint16_t bits) {
  return _cvtsh_ss(bits);
}
#else
uint16_t halfBits(float value) {
  return floatToHalf(value);
}
float halfValue(uint16_t bits) {
  return halfToFloat(bits);
}
#endif

namespace {

// Applies an operation to both halves; fp32 holds sums and products of fp16 exactly, so it rounds once.
template <class F>
uint32_t halves(F f) {
  return halfBits(f(0)) | static_cast<uint32_t>(halfBits(f(16))) << 16;
}

float part(uint32_t word, int shift) {
  return halfValue(static_cast<uint16_t>(word >> shift));
}

void setPair(float* to, uint32_t word, int stride, Half) {
  to[0] = halfValue(static_cast<uint16_t>(word));
  to[stride] = halfValue(static_cast<uint16_t>(word >> 16));
}
void setPair(float* to, uint32_t word, int stride, Bf16) {
  to[0] = bitsFloat(word << 16);
  to[stride] = bitsFloat(word & 0xffff0000u);
}

// D[16x8] = A[16x16] B[16x8] + C, each element's products added one after the other in fp32. Lane l = 4g + t
// holds rows g and g + 8, columns 2t, 2t + 1 (+ 8) of A, the transpose of that of B, columns 2t, 2t + 1 of C.
template <class T>
void runMma(void* const* operands) {
  alignas(64) float a[16][16], b[16][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* in = static_cast<const MmaOperand*>(operands[lane]);
    const int g = lane >> 2, t = (lane & 3) * 2;
    setPair(&a[g][t], in->a[0], 1, T{});
    setPair(&a[g + 8][t], in->a[1], 1, T{});
    setPair(&a[g][t + 8], in->a[2], 1, T{});
    setPair(&a[g + 8][t + 8], in->a[3], 1, T{});
    setPair(&b[t][g], in->b[0], 8, T{});
    setPair(&b[t + 8][g], in->b[1], 8, T{});
    std::memcpy(&c[g][t], in->c, 8);
    std::memcpy(&c[g + 8][t], in->c + 2, 8);
  }
  for (int i = 0; i < 16; ++i) {
    float sum[8];
    std::memcpy(sum, c[i], sizeof sum);
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) sum[j] += a[i][k] * b[k][j];
    }
    std::memcpy(c[i], sum, sizeof sum);
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto* in = static_cast<const MmaOperand*>(operands[lane]);
    const int g = lane >> 2, t = (lane & 3) * 2;
    std::memcpy(in->c, &c[g][t], 8);
    std::memcpy(in->c + 2, &c[g + 8][t], 8);
  }
  ++sim::counters().mma;
}

// Matrix m's row r is the 16 bytes that lane 8m + r points to; lane 4g + t gets elements 2t, 2t + 1 of row g,
// or with Trans those of column g. The eight rows of a matrix are read at once: two in the same 16 bytes of
// the 128 that the banks span conflict.
template <bool kTrans>
void loadMatrices(void* const* operands) {
  for (int m = 0; m < 4; ++m) {
    uint16_t rows[8][8];
    uint32_t banks = 0;
    for (int r = 0; r < 8; ++r) {
      const void* p = static_cast<const LdmatrixOperand*>(operands[8 * m + r])->p;
      const uint32_t bank = 1u << (reinterpret_cast<uintptr_t>(p) / 16 % 8);
      if (banks & bank) ++sim::counters().bankConflicts;
      banks |= bank;
      std::memcpy(rows[r], p, 16);
    }
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane >> 2, t = (lane & 3) * 2;
      const uint16_t low = kTrans ? rows[t][g] : rows[g][t], high = kTrans ? rows[t + 1][g] : rows[g][t + 1];
      static_cast<const LdmatrixOperand*>(operands[lane])->r[m] = low | static_cast<uint32_t>(high) << 16;
    }
  }
  ++sim::counters().ldmatrix;
}

}  // namespace

void runMmaHalf(void* const* operands) {
  runMma<Half>(operands);
}
void runMmaBf16(void* const* operands) {
  runMma<Bf16>(operands);
}
void runLdmatrix(void* const* operands) {
  loadMatrices<false>(operands);
}
void runLdmatrixTrans(void* const* operands) {
  loadMatrices<true>(operands);
}

uint32_t half2Sub(uint32_t a, uint32_t b) {
  return halves([=](int s) { return part(a, s) - part(b, s); });
}
uint32_t half2Mul(uint32_t a, uint32_t b) {
  return halves([=](int s) { return part(a, s) * part(b, s); });
}
uint32_t half2Fma(uint32_t a, uint32_t b, uint32_t c) {
  // In double the product and nearly every sum are exact, so that the only rounding is the last.
  return halves([=](int s) { return static_cast<float>(double{part(a, s)} * part(b, s) + part(c, s)); });
}

}  // namespace octavo::cuda
