// cuBLASLt where it is installed: dense fp16 products for calls of many rows. It picks an algorithm by the
// shape of the call, rows included, so a row's bits depend on its company: only without batch invariance.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "cublaslt_abi.h"
#include "types.h"

namespace octavo::cuda {

// Error codes of failed library calls: this less the library's status (gpu::errorText).
constexpr int kLibraryFailure = -1000;

// out [rows, n] = in [rows, k] weight [n, k]^T + bias, or added to what is in out. Row-major; strides in
// elements, rows 16-byte aligned.
struct MatmulCall {
  const Half* in;
  int64_t inStride;
  const Half* weight;
  int64_t weightStride;
  Half* out;
  int64_t outStride;
  int rows, n, k;
  const Half* bias;  // [n] or null
  bool accumulate;
  void* workspace;  // kMatmulWorkspace bytes
};
constexpr size_t kMatmulWorkspace = size_t{32} << 20;  // what NVIDIA advises for Hopper; smaller GPUs take less

class MatmulLibrary {
 public:
  // The file that OCTAVO_CUBLASLT names, else libcublasLt.so.13 or .12 as the system finds them. Null: `error`
  // says in one line what was missing.
  static std::unique_ptr<MatmulLibrary> open(std::string* error);
  ~MatmulLibrary();
  MatmulLibrary(const MatmulLibrary&) = delete;
  MatmulLibrary& operator=(const MatmulLibrary&) = delete;

  const std::string& version() const { return version_; }

  // Puts the product on the stream. 0 or an error code.
  int multiply(const MatmulCall& call, Stream stream);

 private:
  struct Plan;
  // rows, n, k, strides of in, weight and out, whether there is a bias
  using Key = std::tuple<int, int, int, int64_t, int64_t, int64_t, bool>;

  MatmulLibrary() = default;
  int planFor(const MatmulCall& call, std::shared_ptr<Plan>* plan);
  int makePlan(const MatmulCall& call, Plan* plan) const;

  cublaslt::Functions functions_{};
  cublaslt::Handle handle_ = nullptr;
  std::string version_;
  std::map<Key, std::shared_ptr<Plan>> plans_;
};

}  // namespace octavo::cuda
