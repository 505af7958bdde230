// The three INT4 checkpoint layouts behind one view: q codes, zeros and scales by (input k, output n of one
// part), so that each backend says once how it wants its weights, not once per layout. w[n, k] = (q - z) * s.
#pragma once
#include <cstdint>

#include "half.h"
#include "ops.h"

namespace octavo {

class Int4Part {
 public:
  Int4Part(const LinearSource& source, const LinearPart& part)
      : scheme_(source.scheme),
        groups_(source.k / source.groupSize),
        packedK_((source.k + 7) / 8),
        zeroOffset_(source.zeroOffset),
        part_(part) {}

  // Code of input k and output n, 0..15.
  uint32_t code(int64_t k, int64_t n) const {
    switch (scheme_) {
      case LinearScheme::AwqInt4:
        return nibble(part_.weight, k * (part_.n / 8) + n / 8, awqNibble(n));
      case LinearScheme::GptqInt4:
        return nibble(part_.weight, k / 8 * part_.n + n, static_cast<int>(k & 7));
      default:
        return nibble(part_.weight, n * packedK_ + k / 8, static_cast<int>(k & 7));
    }
  }

  // Codes of inputs 8 word .. 8 word + 7 (nibble i = input 8 word + i): two of the layouts have them in one
  // word. Beyond K the nibbles are undefined.
  uint32_t codes8(int64_t word, int64_t n) const {
    if (scheme_ == LinearScheme::GptqInt4) return readWord(part_.weight.data, word * part_.n + n);
    if (scheme_ == LinearScheme::CompressedInt4) return readWord(part_.weight.data, n * packedK_ + word);
    uint32_t codes = 0;
    const int shift = 4 * awqNibble(n);
    const int64_t rowWords = part_.n / 8;
    for (int i = 0; i < 8; ++i) {
      codes |= (readWord(part_.weight.data, (word * 8 + i) * rowWords + n / 8) >> shift & 15u) << (4 * i);
    }
    return codes;
  }

  // codes8() of outputs n .. n + 7 of AwqInt4, n a multiple of 8: they share their words, so it takes an
  // eighth of the reads.
  void awqCodes8(int64_t word, int64_t n, uint32_t* codes) const {
    uint32_t rows[8];
    for (int i = 0; i < 8; ++i) rows[i] = readWord(part_.weight.data, (word * 8 + i) * (part_.n / 8) + n / 8);
    for (int column = 0; column < 8; ++column) {
      const int shift = 4 * awqNibble(column);
      codes[column] = 0;
      for (int i = 0; i < 8; ++i) codes[column] |= (rows[i] >> shift & 15u) << (4 * i);
    }
  }

  // Zero of a group, in the units of the codes: 0..16.
  int32_t zero(int64_t group, int64_t n) const {
    if (!part_.zeros.data) return 8;
    switch (scheme_) {
      case LinearScheme::AwqInt4:
        return static_cast<int32_t>(nibble(part_.zeros, group * (part_.n / 8) + n / 8, awqNibble(n)));
      case LinearScheme::GptqInt4:
        return static_cast<int32_t>(
                   nibble(part_.zeros, group * (part_.n / 8) + n / 8, static_cast<int>(n & 7))) +
               zeroOffset_;
      default:
        return static_cast<int32_t>(nibble(part_.zeros, n / 8 * groups_ + group, static_cast<int>(n & 7)));
    }
  }

  float scale(int64_t group, int64_t n) const {
    const int64_t index = scheme_ == LinearScheme::CompressedInt4 ? n * groups_ + group : group * part_.n + n;
    return readFloat(part_.scales.data, part_.scales.dtype, index);
  }

 private:
  // Where AWQ puts column n of its eight: ORDER = 0 2 4 6 1 3 5 7 says which column a nibble holds; this
  // inverts it.
  static int awqNibble(int64_t n) { return static_cast<int>((n & 7) / 2 + (n & 1) * 4); }

  static uint32_t nibble(const HostTensor& tensor, int64_t word, int i) {
    return readWord(tensor.data, word) >> (4 * i) & 15u;
  }

  LinearScheme scheme_;
  int64_t groups_;   // K / groupSize
  int64_t packedK_;  // words of one row of CompressedInt4
  int32_t zeroOffset_;
  const LinearPart& part_;
};

// The part that output n of the concatenation belongs to; n becomes the output within it.
inline const LinearPart& partOf(const LinearSource& source, int64_t& n) {
  int32_t i = 0;
  while (n >= source.parts[i].n) n -= source.parts[i++].n;
  return source.parts[i];
}

}  // namespace octavo
