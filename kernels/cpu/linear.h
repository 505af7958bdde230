// A linear layer's weights as the cpu kernels read them.
//
// Outputs are cut into panels of 32 columns, which vector lanes run along; a panel walks K in one contiguous
// stream, so decode reads memory once and in order. Columns beyond N are zero weights.
//   dense  [K][32] f32 | f16 | bf16, as in the checkpoint
//   INT4   [groups] of scales [32] f32 | f16 and zeros [32] u8; from the next 64 bytes on [groups] of codes
//          [ceil(g / 8)][32] u32: byte j of word r = inputs 8 r + j (low half) and 8 r + 4 + j of the group,
//          so that both halves of a word's bytes are four inputs in a row; codes beyond the group are zero
// With siluMulPairs, panel p holds gate columns [16 p, 16 p + 16) and then the up columns of the same range,
// so that one thread has both factors of its outputs.
#pragma once
#include "context.h"

namespace octavo::cpu {

constexpr int kPanel = 32;
constexpr int kPrefetchBytes = 8192;  // how far ahead of the kernel weights are asked for

enum class PanelType : int { F32, F16, BF16, Int4 };

struct CpuLinear : Linear {
  PanelType type = PanelType::F32;
  bool siluMulPairs = false;
  bool halfScales = false;
  int64_t groupSize = 0;  // dense: 0
  int64_t groups = 0;
  int64_t groupWords = 0;  // ceil(groupSize / 8)
  int64_t panels = 0;
  size_t panelBytes = 0;
  Buffer<unsigned char> data;  // [panels][panelBytes]
  Buffer<float> bias;          // [panels][32]

  const unsigned char* panel(int64_t p) const { return data.data() + static_cast<size_t>(p) * panelBytes; }
  size_t scaleBytes() const { return kPanel * (halfScales ? 2u : 4u); }
  size_t groupHeaderBytes() const { return scaleBytes() + kPanel; }
  // Of a panel's scales and zeros, up to its codes.
  size_t headerBytes() const { return (static_cast<size_t>(groups) * groupHeaderBytes() + 63) / 64 * 64; }
  size_t groupCodes() const { return static_cast<size_t>(groupWords) * kPanel; }  // words

  // The output that column c of panel p computes (gate and up outputs are concatenated), or -1 for padding.
  int64_t outputOf(int64_t p, int c) const {
    if (!siluMulPairs) return p * kPanel + c < n ? p * kPanel + c : -1;
    const int64_t column = p * (kPanel / 2) + c % (kPanel / 2);
    if (column >= n / 2) return -1;
    return c < kPanel / 2 ? column : n / 2 + column;
  }
};

// Sets everything but the memory, from a checked source.
void describeLinear(CpuLinear* linear, const LinearSource& source);

// Rows [first, first + rows) and panels [firstPanel, lastPanel) of one call.
struct LinearItem {
  const CpuLinear* weight;
  Rows in, out;
  Epilogue epilogue;
  int64_t first;
  int rows;
  int64_t firstPanel, lastPanel;
};

// INT4 with 8-bit activations (int8_activations.h): linear_int8.cc.
int linearInt8(CpuContext* context, const LinearArgs* args);

}  // namespace octavo::cpu
