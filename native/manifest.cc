#include "manifest.h"

#include <limits>

#include "check.h"

namespace octavo {

namespace {

constexpr int64_t kMaxDimension = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxParts = 3;

std::string shapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void checkShape(const TensorSource& tensor, std::vector<int64_t> expected, const std::string& where) {
  if (tensor.shape != expected)
    failArgument(concat(where, " (", tensor.name, ")"), concat("shape ", shapeText(expected)),
                 shapeText(tensor.shape));
}

void checkFloat(const TensorSource& tensor, const std::string& where) {
  check(tensor.dtype != DType::I32, concat(where, " (", tensor.name, ").dtype"), "f32, f16 or bf16", "i32");
}

void checkInt(const TensorSource& tensor, const std::string& where) {
  check(tensor.dtype == DType::I32, concat(where, " (", tensor.name, ").dtype"), "i32", "a float type");
}

void checkPresent(const TensorSource& tensor, bool present, const std::string& where) {
  check(tensor.present == present, where, present ? "a tensor" : "null", present ? "null" : "a tensor");
}

void validateInt4Part(const LinearPlan& linear, const LinearPartPlan& part, const std::string& where) {
  const int64_t k = linear.k, n = part.n, groups = k / linear.groupSize;
  checkPresent(part.scales, true, where + ".scales");
  checkInt(part.weight, where + ".weight");
  checkFloat(part.scales, where + ".scales");
  if (part.zeros.present) checkInt(part.zeros, where + ".zeros");
  switch (linear.scheme) {
    case LinearScheme::AwqInt4:
      check(n % 8 == 0, where + ".n", "a multiple of 8", n);
      checkPresent(part.zeros, true, where + ".zeros");
      checkShape(part.weight, {k, n / 8}, where + ".weight");
      checkShape(part.zeros, {groups, n / 8}, where + ".zeros");
      checkShape(part.scales, {groups, n}, where + ".scales");
      break;
    case LinearScheme::GptqInt4:
      check(k % 8 == 0, where + ".weight", "k that is a multiple of 8", k);
      checkShape(part.weight, {k / 8, n}, where + ".weight");
      if (part.zeros.present) {
        check(n % 8 == 0, where + ".n", "a multiple of 8", n);
        checkShape(part.zeros, {groups, n / 8}, where + ".zeros");
      }
      checkShape(part.scales, {groups, n}, where + ".scales");
      break;
    default:
      checkShape(part.weight, {n, (k + 7) / 8}, where + ".weight");
      if (part.zeros.present) checkShape(part.zeros, {(n + 7) / 8, groups}, where + ".zeros");
      checkShape(part.scales, {n, groups}, where + ".scales");
  }
}

void validatePart(const LinearPlan& linear, const LinearPartPlan& part, const std::string& where) {
  checkRange(part.n, 1, kMaxDimension, where + ".n");
  checkPresent(part.weight, true, where + ".weight");
  for (auto [tensor, name] : {std::pair(&part.weight, ".weight"), std::pair(&part.scales, ".scales"),
                              std::pair(&part.zeros, ".zeros"), std::pair(&part.bias, ".bias")})
    if (tensor->present) validateTensor(*tensor, where + name);
  if (part.bias.present) {
    checkFloat(part.bias, where + ".bias");
    checkShape(part.bias, {part.n}, where + ".bias");
  }
  if (linear.scheme != LinearScheme::Dense) return validateInt4Part(linear, part, where);
  checkPresent(part.scales, false, where + ".scales");
  checkPresent(part.zeros, false, where + ".zeros");
  checkFloat(part.weight, where + ".weight");
  checkShape(part.weight, {part.n, linear.k}, where + ".weight");
}

}  // namespace

void validateTensor(const TensorSource& tensor, const std::string& where) {
  check(tensor.shape.size() == 1 || tensor.shape.size() == 2, where + ".shape", "1 or 2 dimensions",
        shapeText(tensor.shape));
  for (size_t i = 0; i < tensor.shape.size(); i++)
    checkRange(tensor.shape[i], 1, kMaxDimension, concat(where, ".shape[", i, "]"));
  const size_t bytes =
      checkedProduct(where, {tensor.rows(), tensor.cols(), int64_t(dtypeSize(tensor.dtype))});
  checkRange(tensor.offset, 0, std::numeric_limits<int64_t>::max() - static_cast<int64_t>(bytes),
             where + ".offset");
  check(std::isfinite(tensor.dummyMean), where + ".dummy.mean", "a finite number", tensor.dummyMean);
  check(std::isfinite(tensor.dummySpread), where + ".dummy.spread", "a finite number", tensor.dummySpread);
}

void validateDense(const DensePlan& dense, const std::string& where) {
  checkPresent(dense.source, true, where + ".source");
  validateTensor(dense.source, where + ".source");
  checkFloat(dense.source, where + ".source");
}

void validateLinear(const LinearPlan& linear, const std::string& where) {
  checkRange(linear.k, 1, kMaxDimension, where + ".k");
  checkRange(linear.n, 1, kMaxDimension, where + ".n");
  check(!linear.parts.empty() && linear.parts.size() <= kMaxParts, where + ".parts", "1 to 3 parts",
        linear.parts.size());
  if (linear.scheme == LinearScheme::Dense) {
    checkRange(linear.groupSize, 0, 0, where + ".groupSize");
  } else {
    checkRange(linear.groupSize, 1, linear.k, where + ".groupSize");
    check(linear.k % linear.groupSize == 0, where + ".groupSize", "a divisor of k", linear.groupSize);
  }
  checkRange(linear.zeroOffset, 0, linear.scheme == LinearScheme::GptqInt4 ? 1 : 0, where + ".zeroOffset");
  int64_t outputs = 0;
  for (size_t i = 0; i < linear.parts.size(); i++) {
    validatePart(linear, linear.parts[i], concat(where, ".parts[", i, "]"));
    outputs += linear.parts[i].n;
  }
  check(outputs == linear.n, where + ".n", concat("the sum of its parts, ", outputs).c_str(), linear.n);
  if (linear.siluMulPairs)
    check(linear.parts.size() == 2 && linear.parts[0].n == linear.parts[1].n, where + ".siluMulPairs",
          "two parts of equal n (gate, up)", concat(linear.parts.size(), " parts"));
}

}  // namespace octavo
