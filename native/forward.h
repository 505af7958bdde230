// One op of a model at a time, over whole arrays of activations and weights that are read from their files
// for it: what quantization sees a model through, without ever holding more than one linear of it.
//
// Activations are f32 [rows, width], row-major, all rows of all sequences back to back.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "program.h"
#include "weights.h"

namespace octavo {

struct FloatView {
  float* data = nullptr;
  int64_t size = 0;
};

// Twin of AttentionSpec in src/runner/addon.ts.
struct AttentionSpec {
  int32_t numHeads = 0, numKvHeads = 0, headDim = 0;
  bool hasRope = false;
  RopePlan rope;
  TensorSource qNorm, kNorm;  // [headDim], or not present
  float normEps = 0, scale = 1, softcap = 0;
  int32_t slidingWindow = 0;
};

// Every method checks its arguments (ERR_OCTAVO_ARGUMENT) and its tensors against the files
// (ERR_OCTAVO_FILE); `out` overlaps no input.
class Forward {
 public:
  // threads 0: one per physical core.
  Forward(const std::vector<std::string>& files, int32_t threads);

  int32_t threads() const { return threads_; }
  // A float tensor as f32. Gives the index of its first value that is not finite, or -1.
  int64_t readFloats(const TensorSource& tensor, FloatView out) const;
  void embed(const TensorSource& table, float scale, const std::vector<int32_t>& ids, FloatView out) const;
  void rmsNorm(const TensorSource& weight, float eps, FloatView x, FloatView out) const;
  void linear(const LinearPlan& plan, FloatView x, FloatView out) const;
  // Causal, each sequence from position 0; `lengths` of the sequences add up to the rows.
  void attention(const AttentionSpec& spec, const std::vector<int32_t>& lengths, FloatView q, FloatView k,
                 FloatView v, FloatView out) const;
  void siluMul(int32_t width, FloatView gate, FloatView up, FloatView out) const;

  // A context for ops on `rows` rows of sequences of at most `context` tokens.
  std::unique_ptr<Device> open(int64_t rows, int64_t sequences = 1, int64_t context = 1) const;

 private:
  HostTensor find(const TensorSource& tensor, const std::string& where) const;
  const Dense* loadDense(const Device& device, const TensorSource& tensor, bool keep,
                         const std::string& where) const;

  int32_t threads_;
  std::vector<std::unique_ptr<MappedFile>> files_;
};

// How many rows of `width` a view has; throws ERR_OCTAVO_ARGUMENT unless it is a whole number of them, at
// least 1.
int64_t rowsOf(FloatView view, int64_t width, const std::string& where);

}  // namespace octavo
