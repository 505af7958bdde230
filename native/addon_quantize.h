// The part of the N-API surface that `octavo quantize` uses: the class Quantizer (src/runner/addon.ts).
#pragma once
#include <napi.h>

namespace octavo {

void exportQuantize(Napi::Env env, Napi::Object exports);

}  // namespace octavo
