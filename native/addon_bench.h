// The part of the N-API surface that measures: benchOp and measureCeilings (src/runner/addon.ts).
#pragma once
#include <napi.h>

namespace octavo {

void exportBench(Napi::Env env, Napi::Object exports);

}  // namespace octavo
