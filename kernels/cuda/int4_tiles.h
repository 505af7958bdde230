// The one form of INT4 weights on the device: every checkpoint layout is repacked into it at load, on the
// host.
//
//   codes  [K/16][N/64][32 lanes] Words4   lane 4g + t's 16 bytes are its B fragments of a 16 x 64 slab: word
//   j is the
//                                          16 columns 16j..; nibbles {0,4} = inputs (2t, 2t+1), {1,5} =
//                                          (2t+8, 2t+9) of column 16j + g, {2,6} and {3,7} the same of column
//                                          16j + 8 + g
//   scales [K/group][N/64][8][8] Half      column 8b + g of a slab at [g][b]: a lane's eight are 16 bytes
//   zeros  [K/group][N/64][8][8] uint8     0..16, in the units of the codes
//
// N is padded to 128, K to 128 with scales of zero. Gate and up (siluMulPairs) are interleaved in blocks of 8
// columns. Groups of 32, 64 and 128 are kept; multiples of 128 (also one group for all of K) become 128.
#pragma once
#include <cstdint>

#include "types.h"

namespace octavo {
struct LinearSource;
}

namespace octavo::cuda {

constexpr int kInt4Slab = 64;  // columns
constexpr int kInt4PadN = 128, kInt4PadK = 128;

struct Int4Shape {
  int n, k;       // padded
  int groupSize;  // 32, 64 or 128; 0: the source's group size is not supported
  int64_t codes() const { return static_cast<int64_t>(n) * k / 32; }  // Words4
  int64_t scales() const { return static_cast<int64_t>(n) * k / groupSize; }
};

Int4Shape int4Shape(const LinearSource& source);

// Packs the slabs [firstSlab, lastSlab) of 64 columns into host buffers of the whole shape (and bias, [n],
// unless null; zeros where the source has none). Slabs are independent: callers may pack them on several
// threads.
void packInt4(const LinearSource& source, const Int4Shape& shape, int firstSlab, int lastSlab, Words4* codes,
              Half* scales, uint8_t* zeros, Half* bias);

}  // namespace octavo::cuda
