/* The kernels for 8-bit integers, once for each instruction set, and the choice of one. */

/* tanh8(t) = (c0 + (L (c1 + (L c2 >> 15) >> 15)) >> 8 of t + 800 = 32 piece + L / 1024, in
 * 16 bits and with products rounded: 127 tanh(t / 256) by least squares for each piece, and
 * the last digits by search, until all 1,599 arguments are right. */
static const int16_t tanh8_pieces[3][64] __attribute__((aligned(64))) = {
    {-32259, -32223, -32178, -32119, -32045, -31949, -31826, -31670, -31469, -31214, -30890,
        -30478, -29957, -29300, -28477, -27451, -26184, -24633, -22757, -20522, -17903,
        -14897, -11523, -7836, -3916, 127, 4170, 8090, 11779, 15152, 18159, 20778, 23014,
        24889, 26440, 27708, 28733, 29556, 30213, 30734, 31146, 31471, 31726, 31926, 32082,
        32205, 32301, 32375, 32434, 32479},
    {31, 40, 51, 65, 84, 107, 137, 176, 224, 286, 363, 460, 581, 731, 914, 1136, 1398, 1703,
        2048, 2424, 2816, 3201, 3549, 3830, 4013, 4076, 4012, 3828, 3547, 3198, 2814, 2422,
        2047, 1703, 1398, 1136, 915, 731, 582, 460, 363, 286, 224, 176, 138, 108, 84, 66,
        51, 40},
    {-29, -34, -33, -31, 9, -25, 14, 19, 22, 23, 9, 35, 68, 55, 86, 116, 112, 134, 166, 182,
        181, 172, 140, 84, 30, -71, -129, -174, -178, -230, -219, -223, -176, -177, -156,
        -115, -116, -108, -101, -54, -79, -71, -64, -41, -55, -23, -49, -47, -46, -5},
};

/* a b / 2^15, rounded: vpmulhrsw */
static int multiply_rounded(int a, int b) { return (a * b + (1 << 14)) >> 15; }

static signed char tanh8_of(int t)
{
    const int u = t + INT8_TANH_ARGUMENTS + 1, piece = u / 32, low = u % 32 * 1024;
    const int slope =
        tanh8_pieces[1][piece] + multiply_rounded(low, tanh8_pieces[2][piece]);
    return (signed char)((tanh8_pieces[0][piece] + multiply_rounded(low, slope)) >> 8);
}

#define LENET5C_INT8_SUMS 20
/* Columns, registers of filters: as many sums as registers hold, and weights beside them.
 */
/* clang-format off */
#define LENET5C_INT8_FEW(T)                                                                \
    T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1) T(7, 1) T(8, 1) T(10, 1)               \
    T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(1, 4) T(2, 4)
#define LENET5C_INT8_MANY(T) LENET5C_INT8_FEW(T) T(14, 1) T(7, 2) T(8, 2) T(4, 4) T(5, 4) T(1, 8)
/* clang-format on */

#if defined(LENET5C_X86)

/* The pair of a number's halves of 64 bits becomes its upper 32 bits, in every lane. */
#define LENET5C_UPPER_512(even, odd)                                                       \
    _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd)
#define LENET5C_UPPER_256(even, odd)                                                       \
    _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa)

__attribute__((target("avx512f"), always_inline)) static inline __m512i rescale_512(
    __m512i a, __m512i m, __m512i b, __m512i n, int s)
{
    const __m512i half = _mm512_set1_epi64((int64_t)1 << (s - 1));
    __m512i even = _mm512_add_epi64(_mm512_mul_epi32(a, m), half);
    __m512i odd = _mm512_add_epi64(
        _mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(m, 32)), half);
    even = _mm512_add_epi64(even, _mm512_mul_epi32(b, n));
    odd = _mm512_add_epi64(
        odd, _mm512_mul_epi32(_mm512_srli_epi64(b, 32), _mm512_srli_epi64(n, 32)));
    return _mm512_sra_epi32(LENET5C_UPPER_512(even, odd), _mm_cvtsi32_si128(s - 32));
}

/* tanh8 by the pieces above, of 32 arguments. */
__attribute__((target("avx512f,avx512bw"), always_inline)) static inline __m512i tanh8_512(
    __m512i t)
{
    const __m512i most = _mm512_set1_epi16(INT8_TANH_ARGUMENTS);
    const __m512i least = _mm512_set1_epi16(-INT8_TANH_ARGUMENTS);
    const __m512i u = _mm512_add_epi16(_mm512_set1_epi16(INT8_TANH_ARGUMENTS + 1),
        _mm512_min_epi16(most, _mm512_max_epi16(least, t)));
    const __m512i piece = _mm512_srli_epi16(u, 5);
    const __m512i low =
        _mm512_and_si512(_mm512_slli_epi16(u, 10), _mm512_set1_epi16(31 << 10));
#define LENET5C_OF_PIECE(k)                                                                \
    _mm512_permutex2var_epi16(_mm512_load_si512(tanh8_pieces[k]), piece,                   \
        _mm512_load_si512(tanh8_pieces[k] + 32))
    __m512i y = _mm512_mulhrs_epi16(low, LENET5C_OF_PIECE(2));
    y = _mm512_mulhrs_epi16(low, _mm512_add_epi16(LENET5C_OF_PIECE(1), y));
    return _mm512_srai_epi16(_mm512_add_epi16(LENET5C_OF_PIECE(0), y), 8);
#undef LENET5C_OF_PIECE
}

/* What follows four registers of rescaled numbers, as 64 elements. Packing takes 4 numbers
 * of each register in turn. */
__attribute__((target("avx512f,avx512bw"), always_inline)) static inline void int8_four_512(
    const struct int8_op *p, const __m512i *r, unsigned char *to)
{
    const int is_sigmoid = p->activation == INT8_SIGMOID;
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i a = _mm512_packs_epi32(r[0], r[1]), b = _mm512_packs_epi32(r[2], r[3]);
    if (is_sigmoid || p->activation == INT8_TANH || p->activation == INT8_TANH_SCALED) {
        a = tanh8_512(a);
        b = tanh8_512(b);
    }
    if (is_sigmoid) {
        const __m512i one = _mm512_set1_epi16(INT8_MOST + 1);
        a = _mm512_srai_epi16(_mm512_add_epi16(a, one), 1);
        b = _mm512_srai_epi16(_mm512_add_epi16(b, one), 1);
    }
    a = _mm512_max_epi8(_mm512_packs_epi16(a, b),
        _mm512_set1_epi8(p->activation == INT8_RELU ? 0 : -INT8_MOST));
    a = _mm512_xor_si512(_mm512_permutexvar_epi32(order, a), _mm512_set1_epi8(-128));
    _mm512_storeu_si512(to, a);
}

__attribute__((target("avx2"), always_inline)) static inline __m256i rescale_256(
    __m256i a, __m256i m, __m256i b, __m256i n, int s)
{
    const __m256i half = _mm256_set1_epi64x((int64_t)1 << (s - 1));
    __m256i even = _mm256_add_epi64(_mm256_mul_epi32(a, m), half);
    __m256i odd = _mm256_add_epi64(
        _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(m, 32)), half);
    even = _mm256_add_epi64(even, _mm256_mul_epi32(b, n));
    odd = _mm256_add_epi64(
        odd, _mm256_mul_epi32(_mm256_srli_epi64(b, 32), _mm256_srli_epi64(n, 32)));
    return _mm256_sra_epi32(LENET5C_UPPER_256(even, odd), _mm_cvtsi32_si128(s - 32));
}

#define LENET5C_V 16
#define LENET5C_SET(name) LENET5C_PASTE(name, avx512vnni)
#define LENET5C_NAME "avx512vnni"
#define LENET5C_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define LENET5C_ELEMENT uint8_t
#define LENET5C_ELEMENT_BYTES 1
#define LENET5C_ZERO 128
#define LENET5C_GROUP 4
#define LENET5C_DOT(a, x, w)                                                               \
    ((vec)_mm512_dpbusd_epi32((__m512i)(a), (__m512i)(x), (__m512i)(w)))
#define LENET5C_RESCALE(a, m, b, n, s)                                                     \
    ((vec)rescale_512((__m512i)(a), (__m512i)(m), (__m512i)(b), (__m512i)(n), s))
#define LENET5C_LEAST(a, b) ((vec)_mm512_min_epi32((__m512i)(a), (__m512i)(b)))
#define LENET5C_MOST(a, b) ((vec)_mm512_max_epi32((__m512i)(a), (__m512i)(b)))
#define LENET5C_NARROW(to, v)                                                              \
    _mm_storeu_si128((__m128i *)(void *)(to), _mm512_cvtepi32_epi8((__m512i)(v)))
#define LENET5C_FOUR(p, r, to) int8_four_512(p, (const __m512i *)(r), to)
#define LENET5C_WIDE(from)                                                                 \
    ((vec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(from))))
#define LENET5C_INT8_TILES LENET5C_INT8_MANY
#include "int8_kernels.h"

#if __GNUC__ >= 11 || (defined(__clang__) && __clang_major__ >= 12)
#define LENET5C_AVXVNNI
#define LENET5C_V 8
#define LENET5C_SET(name) LENET5C_PASTE(name, avxvnni)
#define LENET5C_NAME "avxvnni"
#define LENET5C_TARGET __attribute__((target("avx2,avxvnni")))
#define LENET5C_ELEMENT uint8_t
#define LENET5C_ELEMENT_BYTES 1
#define LENET5C_ZERO 128
#define LENET5C_GROUP 4
#define LENET5C_DOT(a, x, w)                                                               \
    ((vec)_mm256_dpbusd_avx_epi32((__m256i)(a), (__m256i)(x), (__m256i)(w)))
#define LENET5C_RESCALE(a, m, b, n, s)                                                     \
    ((vec)rescale_256((__m256i)(a), (__m256i)(m), (__m256i)(b), (__m256i)(n), s))
#define LENET5C_LEAST(a, b) ((vec)_mm256_min_epi32((__m256i)(a), (__m256i)(b)))
#define LENET5C_MOST(a, b) ((vec)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define LENET5C_WIDE(from)                                                                 \
    ((vec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(from))))
#define LENET5C_NARROW(to, v)                                                              \
    _mm_storel_epi64((__m128i *)(void *)(to),                                              \
        _mm_packus_epi16(_mm_packs_epi32(_mm256_castsi256_si128((__m256i)(v)),             \
                             _mm256_extracti128_si256((__m256i)(v), 1)),                   \
            _mm_setzero_si128()))
#define LENET5C_INT8_TILES LENET5C_INT8_FEW
#include "int8_kernels.h"
#endif

#define LENET5C_V 8
#define LENET5C_SET(name) LENET5C_PASTE(name, avx2)
#define LENET5C_NAME "avx2"
#define LENET5C_TARGET __attribute__((target("avx2")))
#define LENET5C_ELEMENT int16_t
#define LENET5C_ELEMENT_BYTES 2
#define LENET5C_ZERO 0
#define LENET5C_GROUP 2
#define LENET5C_DOT(a, x, w) ((a) + (vec)_mm256_madd_epi16((__m256i)(x), (__m256i)(w)))
#define LENET5C_RESCALE(a, m, b, n, s)                                                     \
    ((vec)rescale_256((__m256i)(a), (__m256i)(m), (__m256i)(b), (__m256i)(n), s))
#define LENET5C_LEAST(a, b) ((vec)_mm256_min_epi32((__m256i)(a), (__m256i)(b)))
#define LENET5C_MOST(a, b) ((vec)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define LENET5C_WIDE(from)                                                                 \
    ((vec)_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(from))))
#define LENET5C_NARROW(to, v)                                                              \
    _mm_storeu_si128(                                                                      \
        (__m128i *)(void *)(to), _mm_packs_epi32(_mm256_castsi256_si128((__m256i)(v)),     \
                                     _mm256_extracti128_si256((__m256i)(v), 1)))
#define LENET5C_INT8_TILES LENET5C_INT8_FEW
#include "int8_kernels.h"

#define LENET5C_V 4
#define LENET5C_SET(name) LENET5C_PASTE(name, sse2)
#define LENET5C_NAME "sse2"
#define LENET5C_TARGET
#define LENET5C_ELEMENT int16_t
#define LENET5C_ELEMENT_BYTES 2
#define LENET5C_ZERO 0
#define LENET5C_GROUP 2
#define LENET5C_DOT(a, x, w) ((a) + (vec)_mm_madd_epi16((__m128i)(x), (__m128i)(w)))
#define LENET5C_WIDE(from)                                                                 \
    ((vec)_mm_srai_epi32(_mm_unpacklo_epi16(_mm_setzero_si128(),                           \
                             _mm_loadl_epi64((const __m128i *)(const void *)(from))),      \
        16))
#define LENET5C_NARROW(to, v)                                                              \
    _mm_storel_epi64((__m128i *)(void *)(to), _mm_packs_epi32((__m128i)(v), (__m128i)(v)))
#define LENET5C_INT8_TILES LENET5C_INT8_FEW
#include "int8_kernels.h"
#endif

/* What any machine can run: tests alone want it where there is SSE2. */
#if !defined(LENET5C_X86) || defined(LENET5C_INT8_SET)
#define LENET5C_INT8_PORTABLE
#if defined(LENET5C_VECTORS)
#define LENET5C_V 4
#else
#define LENET5C_V 1
#endif
#define LENET5C_SET(name) LENET5C_PASTE(name, portable)
#define LENET5C_NAME "portable"
#define LENET5C_TARGET
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && LENET5C_V == 4
#define LENET5C_ELEMENT int8_t
#define LENET5C_ELEMENT_BYTES 1
#define LENET5C_GROUP 4
#define LENET5C_DOT(a, x, w)                                                               \
    ((vec)vdotq_s32((int32x4_t)(a), (int8x16_t)(x), (int8x16_t)(w)))
#else
#define LENET5C_ELEMENT int16_t
#define LENET5C_ELEMENT_BYTES 2
#define LENET5C_GROUP 1
#define LENET5C_DOT(a, x, w) ((a) + (x) * (w))
#endif
#define LENET5C_ZERO 0
#define LENET5C_INT8_TILES LENET5C_INT8_FEW
#include "int8_kernels.h"
#endif

/* The best first. */
static const struct int8_kernels *const int8_sets[] = {
#if defined(LENET5C_X86)
    &int8_kernels_avx512vnni,
#if defined(LENET5C_AVXVNNI)
    &int8_kernels_avxvnni,
#endif
    &int8_kernels_avx2,
    &int8_kernels_sse2,
#endif
#if defined(LENET5C_INT8_PORTABLE)
    &int8_kernels_portable,
#endif
};

/* Whether this machine has its instructions. */
static int has_int8_set(const struct int8_kernels *kernels)
{
#if defined(LENET5C_X86)
    __builtin_cpu_init();
    if (kernels == &int8_kernels_avx512vnni)
        return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
#if defined(LENET5C_AVXVNNI)
    if (kernels == &int8_kernels_avxvnni)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avxvnni");
#endif
    if (kernels == &int8_kernels_avx2) return __builtin_cpu_supports("avx2");
#endif
    (void)kernels;
    return 1;
}

/* LENET5C_INT8_SET is a text of the program that names one, for tests. */
#if defined(LENET5C_INT8_SET)
extern const char *LENET5C_INT8_SET;
#endif

static const struct int8_kernels *choose_int8_kernels(void)
{
    const int count = sizeof int8_sets / sizeof *int8_sets;
    for (int i = 0; i < count; i++) {
        const struct int8_kernels *const kernels = int8_sets[i];
        int wanted = kernels->lanes <= LENET5C_MAX_LANES;
#if defined(LENET5C_INT8_SET)
        wanted = strcmp(kernels->name, LENET5C_INT8_SET) == 0;
#endif
        if (wanted && has_int8_set(kernels)) return kernels;
    }
    return int8_sets[count - 1];
}
