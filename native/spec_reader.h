// From JavaScript objects to the plain structures of spec.h and program.h. Objects come from outside: the
// type of every property is checked and an error names its path; ranges and shapes are left to the
// validators.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "spec.h"

namespace octavo {

// A value and the path that led to it, e.g. "spec.program.linears[3].k".
class Field {
 public:
  Field(Napi::Value value, std::string path) : value_(value), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  const Napi::Value& value() const { return value_; }
  bool isNull() const { return value_.IsNull() || value_.IsUndefined(); }
  Field get(const char* name) const;
  std::vector<Field> elements() const;
  bool boolean() const;
  int32_t int32() const;
  int64_t int64() const;
  double number() const;
  std::string string() const;
  // One of `names`; gives its index.
  size_t oneOf(const std::vector<const char*>& names) const;
  std::vector<int32_t> int32Array() const;
  std::vector<double> float64Array() const;

 private:
  template <typename T>
  std::vector<T> typedArray(napi_typedarray_type type, const char* expected) const;
  template <typename Got>
  [[noreturn]] void failType(const char* expected, const Got& got) const;
  std::string typeName() const;

  Napi::Value value_;
  std::string path_;
};

RunnerSpec readSpec(const Field& spec);
TensorSource readTensor(const Field& tensor);  // null: not present
LinearPlan readLinear(const Field& linear);
Program readProgram(const Field& program);
RunnerSizes readSizes(const Field& sizes);

}  // namespace octavo
