// Which instruction sets kernels are compiled for, and the choice among them at run time.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define OCTAVO_X86 1
#endif

namespace octavo::cpu {

// Each has what those before it have. Avx512Vnni: Avx512 with dot products of bytes.
enum class Isa : int { Generic = 0, Avx2 = 1, Avx512 = 2, Avx512Vnni = 3 };

// The best that the processor has, or what cpuForceIsa() asked for.
Isa currentIsa();

}  // namespace octavo::cpu
