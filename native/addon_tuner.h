// The part of the N-API surface that tiles are chosen with: linearShapes, tileSet, matmulLibrary and LinearTuner
// (src/runner/addon.ts).
#pragma once
#include <napi.h>

namespace octavo {

void exportTuner(Napi::Env env, Napi::Object exports);

}  // namespace octavo
