// Errors of the native side, and the guards that raise them. Every message says what was expected, where, and
// what came.
#pragma once
#include <cmath>
#include <cstdint>
#include <exception>
#include <limits>
#include <sstream>
#include <string>
#include <utility>

namespace octavo {

// `code` of the JavaScript error (src/runner/addon.ts).
namespace code {
constexpr const char* kState = "ERR_OCTAVO_STATE";
constexpr const char* kArgument = "ERR_OCTAVO_ARGUMENT";
constexpr const char* kDevice = "ERR_OCTAVO_DEVICE";
constexpr const char* kMemory = "ERR_OCTAVO_MEMORY";
constexpr const char* kFile = "ERR_OCTAVO_FILE";
}  // namespace code

class Error : public std::exception {
 public:
  Error(const char* code, std::string message) : code_(code), message_(std::move(message)) {}
  const char* code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  const char* code_;
  std::string message_;
};

template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <typename... Parts>
[[noreturn]] void fail(const char* code, const Parts&... parts) {
  throw Error(code, concat(parts...));
}

// The usual guard: where "program.linears[3].k", expected "a multiple of 8", got 12.
template <typename Got>
[[noreturn]] void failArgument(const std::string& where, const std::string& expected, const Got& got) {
  fail(code::kArgument, where, ": expected ", expected, ", got ", got);
}

template <typename Got>
void check(bool condition, const std::string& where, const char* expected, const Got& got) {
  if (!condition) failArgument(where, expected, got);
}

inline void checkRange(int64_t value, int64_t low, int64_t high, const std::string& where) {
  if (value < low || value > high)
    failArgument(where, concat("an integer in [", low, ", ", high, "]"), value);
}

// Product of sizes that came from outside; refuses to overflow.
inline size_t checkedProduct(const std::string& where, std::initializer_list<int64_t> factors) {
  size_t product = 1;
  for (int64_t factor : factors) {
    if (factor < 0 || __builtin_mul_overflow(product, static_cast<size_t>(factor), &product) ||
        product > static_cast<size_t>(std::numeric_limits<int64_t>::max()))
      fail(code::kMemory, where, ": the size in bytes overflows 63 bits");
  }
  return product;
}

}  // namespace octavo
