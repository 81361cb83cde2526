/* The kernels, once for each instruction set that the compiler and the machine may have,
 * and the choice of one when a model is opened.
 */

/* Registers of channels, columns, sums beside each other. A tile has to fit 16 registers
 * beside an operand or two, and wants 8 sums: two multiply-adds a cycle of latency 4. The
 * second are for 32 registers. */
/* clang-format off */
#define LENET5C_TILES(T)                                                                   \
    T(1, 1, 4) T(2, 1, 4) T(3, 1, 2) T(4, 1, 2) T(5, 1, 1) T(6, 1, 1) T(7, 1, 1)           \
    T(8, 1, 1) T(9, 1, 1) T(10, 1, 1) T(11, 1, 1) T(12, 1, 1)                              \
    T(1, 2, 1) T(2, 2, 1) T(3, 2, 1) T(4, 2, 1) T(6, 2, 1)                                 \
    T(1, 3, 1) T(2, 3, 1) T(3, 3, 1) T(4, 3, 1) T(1, 4, 1) T(2, 4, 1) T(3, 4, 1)           \
    T(1, 5, 1) T(2, 5, 1) T(1, 6, 1) T(2, 6, 1) T(1, 8, 1) T(1, 10, 1)
#define LENET5C_TILES_32(T)                                                                \
    T(2, 8, 1) T(2, 10, 1) T(3, 5, 1) T(3, 6, 1) T(3, 8, 1) T(4, 4, 1) T(4, 5, 1)          \
    T(4, 6, 1) T(6, 3, 1) T(6, 4, 1) T(8, 2, 1) T(8, 3, 1)
/* Filters, registers of columns. */
#define LENET5C_ROW_TILES(T)                                                               \
    T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1) T(8, 1)                                \
    T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2)
/* Dense layers: images, registers of outputs, of which there are DENSE_REGISTERS at least.
 * The second is for 32 registers. */
#define LENET5C_DENSE_TILES(T)                                                             \
    T(1, 4) T(1, 5) T(1, 6) T(1, 7) T(1, 8) T(2, 3) T(2, 4) T(2, 5) T(3, 2) T(3, 3)        \
    T(4, 1) T(4, 2) T(5, 1) T(5, 2) T(6, 1) T(6, 2) T(7, 1) T(8, 1)
#define LENET5C_DENSE_TILES_32(T)                                                          \
    T(1, 4) T(1, 5) T(1, 6) T(1, 7) T(1, 8) T(2, 4) T(2, 5) T(2, 6) T(2, 7) T(2, 8)        \
    T(3, 4) T(3, 5) T(3, 6) T(3, 7) T(3, 8) T(4, 3) T(4, 4) T(4, 5) T(4, 6)                \
    T(5, 2) T(5, 3) T(5, 4) T(6, 2) T(6, 3) T(6, 4) T(7, 2) T(7, 3) T(8, 2) T(8, 3)
/* Dense layers of few outputs: images, outputs. */
#define LENET5C_DOT_TILES(T) T(1, 1) T(1, 2) T(1, 3) T(1, 4) T(2, 1) T(2, 2) T(2, 3) T(2, 4)
#define LENET5C_DOT_TILES_32(T)                                                            \
    T(3, 1) T(3, 2) T(3, 3) T(3, 4) T(4, 1) T(4, 2) T(4, 3) T(4, 4)
/* clang-format on */
#define LENET5C_DOTS 4
#define LENET5C_MAX_TILE 24
#define LENET5C_MAX_DENSE_TILE 24
#define LENET5C_MAX_IMAGES 8
#define LENET5C_MAX_REGISTERS 8
/* How far ahead weights are fetched, in floats: a CPU guesses a few streams too slowly. */
#define LENET5C_AHEAD 1024

#define LENET5C_PASTE(a, b) a##_##b

#if defined(__GNUC__) && FLT_EVAL_METHOD == 2
#error "exp needs floats of 32 bits, not the x87's: compile with -msse2 -mfpmath=sse"
#endif
#if defined(__GNUC__) && !defined(LENET5C_SCALAR)
#define LENET5C_VECTORS
#endif
#if defined(__clang__)
#define LENET5C_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define LENET5C_UNROLL _Pragma("GCC unroll 16")
#else
#define LENET5C_UNROLL
#endif
#if defined(__GNUC__)
#define LENET5C_ALWAYS __attribute__((always_inline))
#define LENET5C_PREFETCH(from) __builtin_prefetch(from)
#else
#define LENET5C_ALWAYS
#define LENET5C_PREFETCH(from) (void)(from)
#endif
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LENET5C_SHUFFLE
#endif
#endif

#if defined(LENET5C_VECTORS) && defined(__x86_64__) && !defined(LENET5C_PORTABLE)
#define LENET5C_X86
#include <cpuid.h>
#include <immintrin.h>

#define LENET5C_V 16
#define LENET5C_SET(name) LENET5C_PASTE(name, avx512)
#define LENET5C_NAME "avx512"
#define LENET5C_32_REGISTERS
#define LENET5C_TARGET __attribute__((target("avx512f,avx2,fma")))
#define LENET5C_FMA(a, b, c) ((vec)_mm512_fmadd_ps(a, b, c))
#define LENET5C_MIN(a, b) ((vec)_mm512_min_ps(a, b))
#define LENET5C_MAX(a, b) ((vec)_mm512_max_ps(a, b))
#define LENET5C_EVEN(a, b) ((vec)_mm512_shuffle_ps(a, b, 0x88))
#define LENET5C_ODD(a, b) ((vec)_mm512_shuffle_ps(a, b, 0xdd))
#define LENET5C_IN_ORDER(v)                                                                \
    ((vec)_mm512_castpd_ps(_mm512_permutexvar_pd(                                          \
        _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0), _mm512_castps_pd(v))))
#define LENET5C_WIDEN(from)                                                                \
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from))))
#include "kernels.h"

#define LENET5C_V 8
#define LENET5C_SET(name) LENET5C_PASTE(name, avx2)
#define LENET5C_NAME "avx2"
#define LENET5C_TARGET __attribute__((target("avx2,fma")))
#define LENET5C_FMA(a, b, c) ((vec)_mm256_fmadd_ps(a, b, c))
#define LENET5C_MIN(a, b) ((vec)_mm256_min_ps(a, b))
#define LENET5C_MAX(a, b) ((vec)_mm256_max_ps(a, b))
#define LENET5C_EVEN(a, b) ((vec)_mm256_shuffle_ps(a, b, 0x88))
#define LENET5C_ODD(a, b) ((vec)_mm256_shuffle_ps(a, b, 0xdd))
#define LENET5C_IN_ORDER(v)                                                                \
    ((vec)_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8)))
#define LENET5C_WIDEN(from)                                                                \
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from))))
#include "kernels.h"
#endif

/* What any machine can run: 4 floats at a time, or one where the compiler has no vectors.
 */
#if defined(LENET5C_VECTORS)
#ifndef LENET5C_LANES
#define LENET5C_LANES 4 /* 8 and 16 are for tests: slow, and the same order of sums */
#endif
typedef int32_t whole_lanes __attribute__((vector_size(LENET5C_LANES * 4)));
#define LENET5C_V LENET5C_LANES
#define LENET5C_NAME "vector"
#if defined(__aarch64__) && LENET5C_LANES == 4
#include <arm_neon.h>
#define LENET5C_32_REGISTERS
#define LENET5C_FMA(a, b, c) ((vec)vfmaq_f32(c, a, b))
#endif
#define LENET5C_CHOOSE(mask, a, b)                                                         \
    ((vec)(((mask) & (whole_lanes)(a)) | (~(mask) & (whole_lanes)(b))))
#define LENET5C_MIN(a, b) LENET5C_CHOOSE((a) < (b), a, b)
#define LENET5C_MAX(a, b) LENET5C_CHOOSE((a) > (b), a, b)
#if LENET5C_LANES == 4 && defined(LENET5C_SHUFFLE)
#define LENET5C_EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define LENET5C_ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#define LENET5C_IN_ORDER(v) (v)
#endif
#else
#define LENET5C_V 1
#define LENET5C_NAME "scalar"
#define LENET5C_MIN(a, b) ((a) < (b) ? (a) : (b))
#define LENET5C_MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#ifndef LENET5C_FMA
#define LENET5C_FMA(a, b, c) ((a) * (b) + (c))
#endif
#define LENET5C_SET(name) LENET5C_PASTE(name, portable)
#define LENET5C_TARGET
#include "kernels.h"

/* LENET5C_MAX_LANES names a variable of the program that limits the choice. */
#if defined(LENET5C_MAX_LANES)
extern int LENET5C_MAX_LANES;
#else
enum { LENET5C_MAX_LANES = 16 };
#endif

static const struct kernels *choose_kernels(void)
{
#if defined(LENET5C_X86)
    __builtin_cpu_init();
    if (LENET5C_MAX_LANES >= 16 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("fma"))
        return &kernels_avx512;
    if (LENET5C_MAX_LANES >= 8 && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma"))
        return &kernels_avx2;
#endif
    return &kernels_portable;
}
