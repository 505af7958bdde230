#include "matmul_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "gpu.h"

namespace octavo::cuda {
namespace {

using namespace cublaslt;

constexpr uint32_t kAlignment = 16;  // of rows of activations and weights
constexpr size_t kMostPlans = 1024;  // about 1 KB each; a prompt's last chunk may have any number of rows

int failure(Status status) {
  return status == kSuccess ? 0 : kLibraryFailure - status;
}

// The library stays loaded: other threads may be using it.
void* openLibrary(std::string* error) {
  if (const char* named = std::getenv("OCTAVO_CUBLASLT"); named && *named) {
    void* library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
    if (!library) *error = std::string("OCTAVO_CUBLASLT: ") + dlerror();
    return library;
  }
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"})
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  *error = "neither libcublasLt.so.13 nor libcublasLt.so.12 was found";
  return nullptr;
}

// False: a symbol is missing, which `error` names.
bool resolve(void* library, Functions* functions, std::string* error) {
  const auto find = [&](auto** function, const char* name) {
    *function = reinterpret_cast<std::remove_reference_t<decltype(*function)>>(dlsym(library, name));
    if (!*function && error->empty()) *error = std::string("the library has no ") + name;
  };
  error->clear();
  find(&functions->getVersion, "cublasLtGetVersion");
  find(&functions->create, "cublasLtCreate");
  find(&functions->destroy, "cublasLtDestroy");
  find(&functions->descCreate, "cublasLtMatmulDescCreate");
  find(&functions->descDestroy, "cublasLtMatmulDescDestroy");
  find(&functions->descSet, "cublasLtMatmulDescSetAttribute");
  find(&functions->layoutCreate, "cublasLtMatrixLayoutCreate");
  find(&functions->layoutDestroy, "cublasLtMatrixLayoutDestroy");
  find(&functions->preferenceCreate, "cublasLtMatmulPreferenceCreate");
  find(&functions->preferenceDestroy, "cublasLtMatmulPreferenceDestroy");
  find(&functions->preferenceSet, "cublasLtMatmulPreferenceSetAttribute");
  find(&functions->heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(&functions->matmul, "cublasLtMatmul");
  return error->empty();
}

}  // namespace

// Row-major y = x w^T is column-major y^T = w x^T: A is the weight, transposed, B the activations.
struct MatmulLibrary::Plan {
  const Functions& functions;
  Desc desc = nullptr;
  Layout weight = nullptr, in = nullptr, out = nullptr;
  Algorithm algorithm{};

  explicit Plan(const Functions& library) : functions(library) {}
  Plan(const Plan&) = delete;
  ~Plan() {
    if (desc) functions.descDestroy(desc);
    for (const Layout layout : {weight, in, out})
      if (layout) functions.layoutDestroy(layout);
  }
};

std::unique_ptr<MatmulLibrary> MatmulLibrary::open(std::string* error) {
  void* file = openLibrary(error);
  if (!file) return nullptr;
  std::unique_ptr<MatmulLibrary> library(new MatmulLibrary);
  if (!resolve(file, &library->functions_, error)) return nullptr;
  const Status status = library->functions_.create(&library->handle_);
  if (status != kSuccess) {
    *error = "cublasLtCreate failed with status " + std::to_string(status);
    library->handle_ = nullptr;
    return nullptr;
  }
  const size_t version = library->functions_.getVersion();
  library->version_ = "cuBLASLt " + std::to_string(version / 10000) + "." +
                      std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
  return library;
}

MatmulLibrary::~MatmulLibrary() {
  plans_.clear();
  if (handle_) functions_.destroy(handle_);
}

int MatmulLibrary::makePlan(const MatmulCall& call, Plan* plan) const {
  const Functions& f = functions_;
  const int32_t transposed = kTransposed, plain = kPlain;
  const uint32_t epilogue = call.bias ? kBias : kNoEpilogue;
  Status status = f.descCreate(&plan->desc, kCompute32, kReal32);
  if (status == kSuccess) status = f.descSet(plan->desc, kTransA, &transposed, sizeof transposed);
  if (status == kSuccess) status = f.descSet(plan->desc, kTransB, &plain, sizeof plain);
  if (status == kSuccess) status = f.descSet(plan->desc, kEpilogue, &epilogue, sizeof epilogue);
  // The heuristic looks at the pointer's alignment.
  if (status == kSuccess && call.bias)
    status = f.descSet(plan->desc, kBiasPointer, &call.bias, sizeof call.bias);
  const auto layout = [&](Layout* target, int rows, int cols, int64_t stride) {
    if (status == kSuccess)
      status = f.layoutCreate(target, kReal16, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), stride);
  };
  layout(&plan->weight, call.k, call.n, call.weightStride);
  layout(&plan->in, call.k, call.rows, call.inStride);
  layout(&plan->out, call.n, call.rows, call.outStride);
  Preference preference = nullptr;
  if (status == kSuccess) status = f.preferenceCreate(&preference);
  const uint64_t workspace = kMatmulWorkspace;
  if (status == kSuccess) status = f.preferenceSet(preference, kMaxWorkspace, &workspace, sizeof workspace);
  for (const auto attribute : {kMinAlignmentA, kMinAlignmentB, kMinAlignmentC, kMinAlignmentD})
    if (status == kSuccess) status = f.preferenceSet(preference, attribute, &kAlignment, sizeof kAlignment);
  HeuristicResult result{};
  int found = 0;
  if (status == kSuccess)
    status = f.heuristic(handle_, plan->desc, plan->weight, plan->in, plan->out, plan->out, preference, 1,
                         &result, &found);
  if (status == kSuccess && found > 0) status = result.state;
  if (preference) f.preferenceDestroy(preference);
  if (status == kSuccess && found == 0) return -1;  // kInvalidShape
  plan->algorithm = result.algorithm;
  return failure(status);
}

int MatmulLibrary::planFor(const MatmulCall& call, std::shared_ptr<Plan>* plan) {
  const Key key{call.rows,         call.n,         call.k, call.inStride, call.weightStride,
                call.outStride, call.bias != nullptr};
  const auto known = plans_.find(key);
  if (known != plans_.end()) {
    *plan = known->second;
    return 0;
  }
  *plan = std::make_shared<Plan>(functions_);
  if (const int error = makePlan(call, plan->get())) return error;
  if (plans_.size() >= kMostPlans) plans_.clear();
  plans_.emplace(key, *plan);
  return 0;
}

int MatmulLibrary::multiply(const MatmulCall& call, Stream stream) {
  std::shared_ptr<Plan> plan;
  if (const int error = planFor(call, &plan)) return error;
  return gpu::enqueue(stream, [this, call, plan, stream] {
    const float alpha = 1, beta = call.accumulate ? 1 : 0;
    Status status = kSuccess;
    if (call.bias) status = functions_.descSet(plan->desc, kBiasPointer, &call.bias, sizeof call.bias);
    if (status == kSuccess)
      status = functions_.matmul(handle_, plan->desc, &alpha, call.weight, plan->weight, call.in, plan->in, &beta,
                                 call.out, plan->out, call.out, plan->out, &plan->algorithm, call.workspace,
                                 kMatmulWorkspace, stream);
    return failure(status);
  });
}

}  // namespace octavo::cuda
