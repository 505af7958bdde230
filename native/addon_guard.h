// What every function of the N-API surface is wrapped in: errors become JavaScript's, arguments are named.
#pragma once
#include <napi.h>

#include <new>
#include <stdexcept>
#include <string>

#include "check.h"
#include "spec_reader.h"

namespace octavo {

[[noreturn]] inline void throwCoded(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  throw error;
}

// Runs `body`; whatever it throws arrives in JavaScript as an Error with a code.
template <typename Body>
auto guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;  // JavaScript's own: a getter or the progress callback threw it
  } catch (const Error& error) {
    throwCoded(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throwCoded(env, code::kMemory, "host memory: an allocation failed");
  } catch (const std::length_error& error) {
    throwCoded(env, code::kMemory, error.what());
  } catch (const std::exception& error) {
    throwCoded(env, code::kDevice, error.what());
  }
}

inline Field argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  return Field(info[index], name);
}

inline Napi::Number toNumber(Napi::Env env, size_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

}  // namespace octavo
