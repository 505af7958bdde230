#include "spec_reader.h"

#include <cmath>
#include <limits>

#include "check.h"

namespace octavo {

namespace {

// No model comes near; an array of 2^32 - 1 holes must not be walked.
constexpr uint32_t kMaxElements = 1 << 20;
constexpr double kMaxSafeInteger = 9007199254740991.0;

DType readDType(const Field& field) {
  static const DType kTypes[] = {DType::F32, DType::F16, DType::BF16, DType::I32};
  return kTypes[field.oneOf({"f32", "f16", "bf16", "i32"})];
}

BufferPlan readBuffer(const Field& field) {
  const size_t rows = field.get("rows").oneOf({"tokens", "samples"});
  return {field.get("name").string(), rows == 0 ? RowClass::Tokens : RowClass::Samples,
          field.get("width").int32(), field.get("column").int32()};
}

}  // namespace

template <typename Got>
void Field::failType(const char* expected, const Got& got) const {
  failArgument(path_, expected, got);
}

std::string Field::typeName() const {
  switch (value_.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "a boolean";
    case napi_number:
      return "a number";
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      return value_.IsArray() ? "an array" : "an object";
  }
}

Field Field::get(const char* name) const {
  if (!value_.IsObject()) failType("an object", typeName());
  return Field(value_.As<Napi::Object>().Get(name), path_ + "." + name);
}

std::vector<Field> Field::elements() const {
  if (!value_.IsArray()) failType("an array", typeName());
  const Napi::Array array = value_.As<Napi::Array>();
  const uint32_t length = array.Length();
  if (length > kMaxElements)
    failType(concat("an array of at most ", kMaxElements, " elements").c_str(), length);
  std::vector<Field> fields;
  for (uint32_t i = 0; i < length; i++) fields.emplace_back(array.Get(i), concat(path_, "[", i, "]"));
  return fields;
}

bool Field::boolean() const {
  if (!value_.IsBoolean()) failType("a boolean", typeName());
  return value_.As<Napi::Boolean>().Value();
}

double Field::number() const {
  if (!value_.IsNumber()) failType("a number", typeName());
  return value_.As<Napi::Number>().DoubleValue();
}

int64_t Field::int64() const {
  const double number = this->number();
  if (!(std::fabs(number) <= kMaxSafeInteger) || std::floor(number) != number)
    failType("a safe integer", number);
  return static_cast<int64_t>(number);
}

int32_t Field::int32() const {
  const int64_t integer = int64();
  checkRange(integer, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max(), path_);
  return static_cast<int32_t>(integer);
}

std::string Field::string() const {
  if (!value_.IsString()) failType("a string", typeName());
  return value_.As<Napi::String>().Utf8Value();
}

size_t Field::oneOf(const std::vector<const char*>& names) const {
  const std::string text = string();
  std::string expected;
  for (size_t i = 0; i < names.size(); i++) {
    if (text == names[i]) return i;
    expected += (i ? ", " : "one of ") + std::string(names[i]);
  }
  failType(expected.c_str(), "\"" + text + "\"");
}

template <typename T>
std::vector<T> Field::typedArray(napi_typedarray_type type, const char* expected) const {
  if (!value_.IsTypedArray()) failType(expected, typeName());
  napi_typedarray_type actual;
  size_t length = 0;
  void* data = nullptr;
  const napi_status status =
      napi_get_typedarray_info(value_.Env(), value_, &actual, &length, &data, nullptr, nullptr);
  if (status != napi_ok || actual != type) failType(expected, "another typed array");
  const T* first = static_cast<const T*>(data);
  return length == 0 ? std::vector<T>() : std::vector<T>(first, first + length);
}

std::vector<int32_t> Field::int32Array() const {
  return typedArray<int32_t>(napi_int32_array, "an Int32Array");
}

std::vector<double> Field::float64Array() const {
  return typedArray<double>(napi_float64_array, "a Float64Array");
}

TensorSource readTensor(const Field& field) {
  TensorSource tensor;
  if (field.isNull()) return tensor;
  tensor.present = true;
  tensor.name = field.get("name").string();
  tensor.file = field.get("file").int32();
  tensor.offset = field.get("offset").int64();
  tensor.dtype = readDType(field.get("dtype"));
  for (const Field& dimension : field.get("shape").elements()) tensor.shape.push_back(dimension.int64());
  const Field dummy = field.get("dummy");
  if (!dummy.isNull()) {
    tensor.dummyMean = dummy.get("mean").number();
    tensor.dummySpread = dummy.get("spread").number();
  }
  return tensor;
}

LinearPlan readLinear(const Field& field) {
  static const LinearScheme kSchemes[] = {LinearScheme::Dense, LinearScheme::AwqInt4, LinearScheme::GptqInt4,
                                          LinearScheme::CompressedInt4};
  LinearPlan linear;
  linear.name = field.get("name").string();
  linear.scheme = kSchemes[field.get("scheme").oneOf({"dense", "awq-int4", "gptq-int4", "compressed-int4"})];
  linear.k = field.get("k").int32();
  linear.n = field.get("n").int32();
  linear.groupSize = field.get("groupSize").int32();
  linear.zeroOffset = field.get("zeroOffset").int32();
  linear.siluMulPairs = field.get("siluMulPairs").boolean();
  for (const Field& part : field.get("parts").elements())
    linear.parts.push_back({part.get("n").int32(), readTensor(part.get("weight")),
                            readTensor(part.get("scales")), readTensor(part.get("zeros")),
                            readTensor(part.get("bias"))});
  return linear;
}

Program readProgram(const Field& field) {
  Program program;
  program.version = field.get("version").int32();
  program.architecture = field.get("architecture").string();
  program.vocabSize = field.get("vocabSize").int32();
  program.code = field.get("code").int32Array();
  program.headStart = field.get("headStart").int32();
  for (const Field& buffer : field.get("buffers").elements()) program.buffers.push_back(readBuffer(buffer));
  program.tokenColumns = field.get("tokenColumns").int32();
  program.sampleColumns = field.get("sampleColumns").int32();
  program.logits = field.get("logits").int32();
  for (const Field& dense : field.get("dense").elements())
    program.dense.push_back(
        {dense.get("name").string(), readTensor(dense.get("source")), dense.get("keep").boolean()});
  for (const Field& linear : field.get("linears").elements()) program.linears.push_back(readLinear(linear));
  for (const Field& rope : field.get("ropes").elements())
    program.ropes.push_back({rope.get("inverseFrequencies").float64Array(), rope.get("scale").number(),
                             rope.get("interleaved").boolean()});
  for (const Field& layer : field.get("kvLayers").elements())
    program.kvLayers.push_back({layer.get("numKvHeads").int32(), layer.get("headDim").int32()});
  return program;
}

RunnerSizes readSizes(const Field& field) {
  RunnerSizes sizes;
  sizes.maxNumTokens = field.get("maxNumTokens").int32();
  sizes.maxNumSeqs = field.get("maxNumSeqs").int32();
  sizes.maxNumSamples = field.get("maxNumSamples").int32();
  sizes.maxModelLen = field.get("maxModelLen").int32();
  sizes.maxBlocksPerSeq = field.get("maxBlocksPerSeq").int32();
  sizes.numBlocks = field.get("numBlocks").int32();
  sizes.logitsRows = field.get("logitsRows").int32();
  return sizes;
}

RunnerSpec readSpec(const Field& field) {
  static const DType kKvTypes[] = {DType::F32, DType::F16, DType::I8};
  RunnerSpec spec;
  spec.device = field.get("device").string();
  spec.threads = field.get("threads").int32();
  spec.program = readProgram(field.get("program"));
  for (const Field& file : field.get("files").elements()) {
    spec.files.push_back(file.string());
    check(spec.files.back().find('\0') == std::string::npos, file.path(), "a path without NUL",
          "one with it");
  }
  spec.sizes = readSizes(field.get("sizes"));
  spec.kvCacheDtype = kKvTypes[field.get("kvCacheDtype").oneOf({"f32", "f16", "int8"})];
  spec.int8Activations = field.get("cpuActivations").oneOf({"f32", "int8"}) == 1;
  spec.keepLogits = field.get("keepLogits").boolean();
  const int64_t seed = field.get("dummySeed").int64();
  checkRange(seed, 0, std::numeric_limits<uint32_t>::max(), "spec.dummySeed");
  spec.dummySeed = static_cast<uint32_t>(seed);
  spec.graphRows = field.get("graphRows").int32Array();
  for (const Field& tile : field.get("tiles").elements())
    spec.tiles.push_back(
        {tile.get("shape").string(), tile.get("mostRows").int32(), tile.get("tile").string()});
  spec.useMatmulLibrary = field.get("useMatmulLibrary").boolean();
  return spec;
}

}  // namespace octavo
