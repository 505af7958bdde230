// Compiles a kernel file once per instruction set, without asking anything of the compiler's command line. A
// kernel file defines OCTAVO_KERNEL_FILE as its own name and includes this header, which includes the file
// again for each instruction set, with OCTAVO_ISA the namespace to define the kernels in; the op, at the end
// of the file, picks one with OCTAVO_SELECT. Everything else must be included before: headers of the standard
// library must not be compiled with instructions that a processor may lack.
//
// A kernel file, for example add.cc:
//
//   #ifdef OCTAVO_ISA
//   namespace octavo::cpu::OCTAVO_ISA { kernels, in an anonymous namespace }
//   #else
//   #define OCTAVO_KERNEL_FILE "add.cc"
//   #include "foreach_isa.h"
//   the op, which calls OCTAVO_SELECT(isa, kernel)(arguments)
//   #endif
//
// A file that defines OCTAVO_VNNI before including this is compiled for Isa::Avx512Vnni as well; others run
// their Avx512 kernels there.
//
// No lambdas in kernels: GCC compiles those without the instruction set. Long kernels have a header of their
// own.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../half.h"
#include "isa.h"

#ifdef OCTAVO_X86
// GCC 12 takes the undefined operands of some AVX-512 intrinsics for a mistake of ours (GCC bug 105593).
#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#define OCTAVO_ISA generic
#include "simd_generic.h"
#include "simd_math.h"
#include OCTAVO_KERNEL_FILE
#undef OCTAVO_ISA

#ifdef OCTAVO_X86

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define OCTAVO_ISA avx2
#include "simd_avx2.h"
#include "simd_math.h"
#include OCTAVO_KERNEL_FILE
#undef OCTAVO_ISA
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
#define OCTAVO_ISA avx512
#include "simd_avx512.h"
#include "simd_math.h"
#include OCTAVO_KERNEL_FILE
#undef OCTAVO_ISA
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#ifdef OCTAVO_VNNI
#ifdef __clang__
#pragma clang attribute push(                                                               \
    __attribute__((target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
#define OCTAVO_ISA avx512vnni
#include "simd_avx512vnni.h"
#include "simd_math.h"
#include OCTAVO_KERNEL_FILE
#undef OCTAVO_ISA
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#define OCTAVO_SELECT(isa, kernel)                               \
  ((isa) == ::octavo::cpu::Isa::Avx512Vnni ? &avx512vnni::kernel \
   : (isa) == ::octavo::cpu::Isa::Avx512   ? &avx512::kernel     \
   : (isa) == ::octavo::cpu::Isa::Avx2     ? &avx2::kernel       \
                                           : &generic::kernel)
#else
#define OCTAVO_SELECT(isa, kernel)                       \
  ((isa) >= ::octavo::cpu::Isa::Avx512 ? &avx512::kernel \
   : (isa) == ::octavo::cpu::Isa::Avx2 ? &avx2::kernel   \
                                       : &generic::kernel)
#endif
#else
#define OCTAVO_SELECT(isa, kernel) (static_cast<void>(isa), &generic::kernel)
#endif
