// Plain types that kernels, launchers and their callers share. No CUDA header is needed to call a launcher.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace octavo::cuda {

using Stream = CUstream_st*;  // what cudaStream_t is; the simulator ignores it

struct Half {
  uint16_t bits;
};

struct Bf16 {
  uint16_t bits;
};

struct alignas(16) Words4 {
  uint32_t x[4];
};

struct alignas(8) Words2 {
  uint32_t x[2];
};

struct alignas(8) Float2 {
  float x, y;
};

struct Grid {
  uint32_t x = 1, y = 1, z = 1;
};

}  // namespace octavo::cuda
