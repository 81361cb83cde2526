/* The kernels for 8-bit integers, once for each instruction set, and the choice of one. */

/* tanh8(t) = (c0 + L (c1 + L c2 / 2^15) / 2^15) / 2^8 of t + 832 = 64 piece + L / 2^9, in
 * 16 bits, with products rounded and the last division rounded down: right for all 1,599
 * arguments, by docs/fit_tanh8.py. */
enum { INT8_TANH_PIECES = 26, INT8_TANH_FIRST = 832 };
static const int16_t tanh8_pieces[3][32] __attribute__((aligned(64))) = {
    {-32464, -32129, -32230, -31979, -31722, -31225, -30472, -29287, -27457, -24640, -20520,
        -14897, -7818, 107, 8076, 15153, 20777, 24905, 27697, 29544, 30741, 31475, 31885,
        32139, 32383, 32328},
    {343, 0, 212, 195, 511, 595, 875, 1371, 2306, 3436, 4856, 6419, 7597, 8329, 7738, 6393,
        4813, 3328, 2328, 1517, 910, 525, 546, 493, 0, 362},
    {76, 0, 130, 139, -10, 137, 298, 472, 492, 675, 765, 648, 369, -363, -662, -779, -697,
        -528, -488, -346, -188, -52, -188, -162, 0, 76},
};

/* a b / 2^15, rounded: vpmulhrsw */
static int multiply_rounded(int a, int b) { return (a * b + (1 << 14)) >> 15; }

static signed char tanh8_of(int t)
{
    const int u = t + INT8_TANH_FIRST, piece = u / 64, low = u % 64 * 512;
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

/* a m / 2^(s-1), rounded down, for s > 32: the rescaled number is (that + 1) / 2. */
__attribute__((target("avx512f"), always_inline)) static inline __m512i rescale_twice_512(
    __m512i a, __m512i m, int s)
{
    const __m512i upper = _mm512_setr_epi32(
        1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31); /* halves of 64 bits */
    const __m512i odd =
        _mm512_mul_epi32(_mm512_shuffle_epi32(a, 0xf5), _mm512_shuffle_epi32(m, 0xf5));
    return _mm512_srav_epi32(_mm512_permutex2var_epi32(_mm512_mul_epi32(a, m), upper, odd),
        _mm512_set1_epi32(s - 33));
}

/* tanh8 by the pieces above, of 32 arguments (t + 1) / 2. */
__attribute__((target("avx512f,avx512bw"), always_inline)) static inline __m512i tanh8_512(
    __m512i t)
{
    const __m512i most = _mm512_set1_epi16(2 * INT8_TANH_ARGUMENTS);
    const __m512i least = _mm512_set1_epi16(-2 * INT8_TANH_ARGUMENTS - 1);
    const __m512i u = _mm512_add_epi16(_mm512_set1_epi16(2 * INT8_TANH_FIRST + 1),
        _mm512_min_epi16(most, _mm512_max_epi16(least, t)));
    const __m512i piece = _mm512_srli_epi16(u, 7);
    const __m512i low =
        _mm512_and_si512(_mm512_slli_epi16(u, 8), _mm512_set1_epi16(63 << 9));
#define LENET5C_OF_PIECE(k)                                                                \
    _mm512_permutexvar_epi16(piece, _mm512_load_si512(tanh8_pieces[k]))
    __m512i y = _mm512_mulhrs_epi16(low, LENET5C_OF_PIECE(2));
    y = _mm512_mulhrs_epi16(low, _mm512_add_epi16(LENET5C_OF_PIECE(1), y));
    return _mm512_srai_epi16(_mm512_add_epi16(LENET5C_OF_PIECE(0), y), 8);
#undef LENET5C_OF_PIECE
}

/* What follows 32 numbers t, of which the rescaled ones are (t + 1) / 2. */
__attribute__((target("avx512f,avx512bw"), always_inline)) static inline __m512i finish_512(
    const struct int8_op *p, __m512i t)
{
    const __m512i most = _mm512_set1_epi16(INT8_MOST), one = _mm512_set1_epi16(1);
    const __m512i least = _mm512_set1_epi16(p->activation == INT8_RELU ? 0 : -INT8_MOST);
    if (p->activation == INT8_TANH || p->activation == INT8_TANH_SCALED)
        return tanh8_512(t);
    if (p->activation == INT8_SIGMOID)
        return _mm512_srai_epi16(
            _mm512_add_epi16(tanh8_512(t), _mm512_add_epi16(most, one)), 1);
    t = _mm512_srai_epi16(_mm512_adds_epi16(t, one), 1);
    return _mm512_min_epi16(most, _mm512_max_epi16(least, t));
}

/* What follows four registers of sums, as 64 elements; sum i has those of the multipliers,
 * of R registers, that i mod R says. R is a power of 2. Packing takes 4 numbers of each
 * register in turn. */
__attribute__((target("avx512f,avx512bw"), always_inline)) static inline void int8_four_512(
    const struct int8_op *p, const __m512i *sums, const int32_t *m, int i, int R,
    unsigned char *to)
{
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i r[4], packed;
    LENET5C_UNROLL for (int k = 0; k < 4; k++) r[k] = rescale_twice_512(
        sums[i + k], _mm512_loadu_si512(m + ((i + k) & (R - 1)) * 16), p->shift);
    packed = _mm512_packs_epi16(finish_512(p, _mm512_packs_epi32(r[0], r[1])),
        finish_512(p, _mm512_packs_epi32(r[2], r[3])));
    packed = _mm512_permutexvar_epi32(order, packed);
    _mm512_storeu_si512(to, _mm512_xor_si512(packed, _mm512_set1_epi8(-128)));
}

/* Elements of pixels that follow each other: two of the table share 16 bits. */
__attribute__((target("avx512f,avx512bw"))) static void int8_read_512(
    const uint8_t *pixels, unsigned char *x, int count, const signed char *table)
{
    __m512i words[4];
    LENET5C_UNROLL for (int k = 0; k < 4; k++) words[k] =
        _mm512_xor_si512(_mm512_loadu_si512(table + 64 * k), _mm512_set1_epi8(-128));
    for (int k = 0; k < count; k += 64) {
        const __mmask64 some = count - k < 64 ? ((__mmask64)1 << (count - k)) - 1 : ~0ull;
        const __m512i p = _mm512_maskz_loadu_epi8(some, pixels + k);
        __m512i found[2]; /* of the pixels at even and at odd places */
        LENET5C_UNROLL for (int odd = 0; odd < 2; odd++)
        {
            const __m512i b =
                odd ? _mm512_srli_epi16(p, 8) : _mm512_and_si512(p, _mm512_set1_epi16(255));
            const __m512i word = _mm512_srli_epi16(b, 1);
            const __m512i pair =
                _mm512_mask_blend_epi16(_mm512_cmpgt_epi16_mask(b, _mm512_set1_epi16(127)),
                    _mm512_permutex2var_epi16(words[0], word, words[1]),
                    _mm512_permutex2var_epi16(words[2], word, words[3]));
            const __m512i second =
                _mm512_and_si512(_mm512_slli_epi16(b, 3), _mm512_set1_epi16(8));
            found[odd] = _mm512_srlv_epi16(pair, second);
        }
        _mm512_mask_storeu_epi8(x + k, some,
            _mm512_mask_blend_epi8(
                0xaaaaaaaaaaaaaaaau, found[0], _mm512_slli_epi16(found[1], 8)));
    }
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

/* As rescale_twice_512, but of 8 numbers. */
__attribute__((target("avx2"), always_inline)) static inline __m256i rescale_twice_256(
    __m256i a, __m256i m, int s)
{
    const __m256i even = _mm256_mul_epi32(a, m);
    const __m256i odd =
        _mm256_mul_epi32(_mm256_shuffle_epi32(a, 0xf5), _mm256_shuffle_epi32(m, 0xf5));
    return _mm256_srav_epi32(
        _mm256_blend_epi32(_mm256_shuffle_epi32(even, 0xf5), odd, 0xaa),
        _mm256_set1_epi32(s - 33));
}

/* The pieces from 0 on, as low and high bytes. */
static const uint8_t tanh8_bytes[3][2][16] __attribute__((aligned(16))) = {
    {{107, 140, 49, 41, 73, 49, 104, 21, 243, 141, 139, 127, 72},
        {0, 31, 59, 81, 97, 108, 115, 120, 122, 124, 125, 126, 126}},
    {{137, 58, 249, 205, 0, 24, 237, 142, 13, 34, 237, 0, 106},
        {32, 30, 24, 18, 13, 9, 5, 3, 2, 2, 1, 0, 1}},
    {{149, 106, 245, 71, 240, 24, 166, 68, 204, 68, 94, 0, 76},
        {254, 253, 252, 253, 253, 254, 254, 255, 255, 255, 255, 0, 0}},
};

/* Coefficient k of 16 numbers, by the places of their low and high bytes. */
__attribute__((target("avx2"), always_inline)) static inline __m256i of_piece_256(
    int k, __m256i low, __m256i high)
{
    const __m128i *const bytes = (const __m128i *)(const void *)tanh8_bytes[k];
    return _mm256_or_si256(
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(bytes)), low),
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(bytes + 1)), high));
}

/* What follows 16 numbers t, of which the rescaled ones are (t + 1) / 2. */
__attribute__((target("avx2"), always_inline)) static inline __m256i finish_256(
    const struct int8_op *p, __m256i t)
{
    const int is_sigmoid = p->activation == INT8_SIGMOID;
    t = _mm256_srai_epi16(_mm256_adds_epi16(t, _mm256_set1_epi16(1)), 1);
    if (is_sigmoid || p->activation == INT8_TANH || p->activation == INT8_TANH_SCALED) {
        const __m256i u =
            _mm256_min_epi16(_mm256_abs_epi16(t), _mm256_set1_epi16(INT8_TANH_ARGUMENTS));
        const __m256i piece = _mm256_srli_epi16(u, 6);
        const __m256i low = _mm256_or_si256(piece, _mm256_set1_epi16(-0x8000));
        const __m256i high =
            _mm256_or_si256(_mm256_slli_epi16(piece, 8), _mm256_set1_epi16(0x80));
        const __m256i part =
            _mm256_and_si256(_mm256_slli_epi16(u, 9), _mm256_set1_epi16(63 << 9));
        __m256i y = _mm256_mulhrs_epi16(part, of_piece_256(2, low, high));
        y = _mm256_mulhrs_epi16(part, _mm256_add_epi16(y, of_piece_256(1, low, high)));
        y = _mm256_srli_epi16(_mm256_add_epi16(y, of_piece_256(0, low, high)), 8);
        y = _mm256_sign_epi16(y, t);
        if (!is_sigmoid) return y;
        return _mm256_srai_epi16(_mm256_add_epi16(y, _mm256_set1_epi16(INT8_MOST + 1)), 1);
    }
    t = _mm256_max_epi16(t, _mm256_set1_epi16(p->activation == INT8_RELU ? 0 : -INT8_MOST));
    return _mm256_min_epi16(t, _mm256_set1_epi16(INT8_MOST));
}

/* As int8_four_512, of four registers of 8 sums, as elements of one byte or two. */
__attribute__((target("avx2"), always_inline)) static inline void int8_four_256(
    const struct int8_op *p, const __m256i *sums, const int32_t *m, int i, int R,
    unsigned char *to, const int bytes)
{
    __m256i r[4], a, b, *const y = (__m256i *)(void *)to;
    LENET5C_UNROLL for (int k = 0; k < 4; k++)
    {
        const int32_t *const of = m + ((i + k) & (R - 1)) * 8;
        r[k] = rescale_twice_256(
            sums[i + k], _mm256_loadu_si256((const __m256i *)(const void *)of), p->shift);
    }
    a = finish_256(p, _mm256_packs_epi32(r[0], r[1]));
    b = finish_256(p, _mm256_packs_epi32(r[2], r[3]));
    if (bytes == 2) {
        _mm256_storeu_si256(y, _mm256_permute4x64_epi64(a, 0xd8));
        _mm256_storeu_si256(y + 1, _mm256_permute4x64_epi64(b, 0xd8));
        return;
    }
    a = _mm256_permutevar8x32_epi32(
        _mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(y, _mm256_xor_si256(a, _mm256_set1_epi8(-128)));
}

/* For int8_pooled.h: columns 0 to 3, 8 to 11 and so on, or, if `odd`, those between. */
__attribute__((target("avx512f,avx512bw"), always_inline)) static inline __m512i
pool_groups_512(const unsigned char *x, int odd)
{
    const __m512i bytes = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6));
    const __m512i pairs = _mm512_setr_epi32(0, 1, 0, 0, 2, 3, 0, 0, 4, 5, 0, 0, 6, 7, 0, 0);
    return _mm512_shuffle_epi8(
        _mm512_permutexvar_epi32(pairs, _mm512_loadu_si512(x + 4 * odd)), bytes);
}

__attribute__((target("avx2"), always_inline)) static inline __m256i pool_groups_256(
    const unsigned char *x, int odd)
{
    const __m256i bytes = _mm256_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6,
        0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6);
    const __m256i four = _mm256_permutevar8x32_epi32(
        _mm256_loadu_si256((const __m256i *)(const void *)(x + 4 * odd)),
        _mm256_setr_epi32(0, 1, 0, 0, 2, 3, 0, 0));
    return _mm256_shuffle_epi8(four, bytes);
}

__attribute__((target("avx2"), always_inline)) static inline __m256i pool_pairs_256(
    const unsigned char *x, int odd)
{
    const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)x);
    const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(x + 2));
    return odd ? _mm256_unpackhi_epi16(a, b) : _mm256_unpacklo_epi16(a, b);
}

/* The larger one of each two of 16 bits, of two registers. */
__attribute__((target("avx512f,avx512bw"), always_inline)) static inline __m512i
pool_largest_512(__m512i a, __m512i b)
{
    const __m512i v = _mm512_max_epi16(a, b);
    return _mm512_srai_epi32(_mm512_max_epi16(v, _mm512_slli_epi32(v, 16)), 16);
}

__attribute__((target("avx2"), always_inline)) static inline __m256i pool_largest_256(
    __m256i a, __m256i b)
{
    const __m256i v = _mm256_max_epi16(a, b);
    return _mm256_srai_epi32(_mm256_max_epi16(v, _mm256_slli_epi32(v, 16)), 16);
}

/* What puts the bytes of `filters` filters next to each other, of two columns with 8. */
static __m128i pool_order(int filters)
{
    unsigned char order[16];
    for (int k = 0; k < 16; k++)
        order[k] = (unsigned char)(k < filters ? k : (8 + k - filters) & 15);
    return _mm_loadu_si128((const __m128i *)(const void *)order);
}

/* 16 columns of all filters, numbers of 32 bits, as elements of a byte. */
__attribute__((target("avx512f,avx512bw"))) static void pool_store_512(
    const struct int8_op *p, const __m512i *v, unsigned char *y)
{
    const __m512i order = _mm512_broadcast_i32x4(pool_order(p->filters));
    const __m512i moved = _mm512_set1_epi8(-128);
    __m512i four[2] = {moved, moved}, columns[2];
    unsigned char bytes[2][64];
    for (int f = 0; f < p->filters; f++)
        four[f / 4] = _mm512_xor_si512(
            four[f / 4], _mm512_sllv_epi32(_mm512_and_si512(v[f], _mm512_set1_epi32(255)),
                             _mm512_set1_epi32(8 * (f % 4))));
    columns[0] = _mm512_unpacklo_epi32(four[0], four[1]);
    columns[1] = _mm512_unpackhi_epi32(four[0], four[1]);
    for (int k = 0; k < 2; k++)
        _mm512_storeu_si512(bytes[k], _mm512_shuffle_epi8(columns[k], order));
    for (int k = 0; k < 8; k++, y += 2 * p->filters)
        memcpy(y, bytes[k % 2] + k / 2 * 16, 16);
}

__attribute__((target("avx2"))) static void pool_store_256(
    const struct int8_op *p, const __m256i *v, unsigned char *y)
{
    const __m256i order = _mm256_broadcastsi128_si256(pool_order(p->filters));
    const __m256i moved = _mm256_set1_epi8(-128);
    __m256i four[2] = {moved, moved}, columns[2];
    unsigned char bytes[2][32];
    for (int f = 0; f < p->filters; f++)
        four[f / 4] = _mm256_xor_si256(
            four[f / 4], _mm256_sll_epi32(_mm256_and_si256(v[f], _mm256_set1_epi32(255)),
                             _mm_cvtsi32_si128(8 * (f % 4))));
    columns[0] = _mm256_unpacklo_epi32(four[0], four[1]);
    columns[1] = _mm256_unpackhi_epi32(four[0], four[1]);
    for (int k = 0; k < 2; k++)
        _mm256_storeu_si256(
            (__m256i *)(void *)bytes[k], _mm256_shuffle_epi8(columns[k], order));
    for (int k = 0; k < 4; k++, y += 2 * p->filters)
        memcpy(y, bytes[k % 2] + k / 2 * 16, 16);
}

/* 8 columns of all filters as elements of 16 bits. */
__attribute__((target("avx2"))) static void pool_store_words_256(
    const struct int8_op *p, const __m256i *v, unsigned char *y)
{
    const __m256i low = _mm256_set1_epi32(0xffff);
    __m256i two[4] = {low, low, low, low}, a, b;
    unsigned char bytes[8][16];
    for (int f = 0; f < p->filters; f += 2) /* one more than there are may be read */
        two[f / 2] =
            _mm256_or_si256(_mm256_and_si256(v[f], low), _mm256_slli_epi32(v[f + 1], 16));
    for (int k = 0; k < 2; k++) { /* columns 0, 1, 4, 5 and 2, 3, 6, 7 */
        a = k ? _mm256_unpackhi_epi32(two[0], two[1])
              : _mm256_unpacklo_epi32(two[0], two[1]);
        b = k ? _mm256_unpackhi_epi32(two[2], two[3])
              : _mm256_unpacklo_epi32(two[2], two[3]);
        _mm256_storeu2_m128i((__m128i *)(void *)bytes[4 + 2 * k],
            (__m128i *)(void *)bytes[2 * k], _mm256_unpacklo_epi64(a, b));
        _mm256_storeu2_m128i((__m128i *)(void *)bytes[5 + 2 * k],
            (__m128i *)(void *)bytes[1 + 2 * k], _mm256_unpackhi_epi64(a, b));
    }
    for (int k = 0; k < 8; k++, y += 2 * p->filters) memcpy(y, bytes[k], 16);
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
#define LENET5C_FOUR(p, sums, m, i, R, to)                                                 \
    int8_four_512(p, (const __m512i *)(sums), m, i, R, to)
#define LENET5C_WIDE(from)                                                                 \
    ((vec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(from))))
#define LENET5C_READ int8_read_512
#define LENET5C_POOL_GROUPS(x, odd) ((vec)pool_groups_512(x, odd))
#define LENET5C_POOL_RESCALE(a, m, s)                                                      \
    ((vec)rescale_twice_512((__m512i)(a), (__m512i)(m), s))
#define LENET5C_POOL_WORDS(p, a, b)                                                        \
    ((vec)finish_512(p, _mm512_packs_epi32((__m512i)(a), (__m512i)(b))))
#define LENET5C_POOL_WINDOWS(a, b)                                                         \
    ((vec)_mm512_madd_epi16(                                                               \
        _mm512_add_epi16((__m512i)(a), (__m512i)(b)), _mm512_set1_epi16(1)))
#define LENET5C_POOL_LARGEST(a, b) ((vec)pool_largest_512((__m512i)(a), (__m512i)(b)))
#define LENET5C_POOL_STORE(p, v, y) pool_store_512(p, (const __m512i *)(v), y)
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
#define LENET5C_FOUR(p, sums, m, i, R, to)                                                 \
    int8_four_256(p, (const __m256i *)(sums), m, i, R, to, 1)
#define LENET5C_POOL_GROUPS(x, odd) ((vec)pool_groups_256(x, odd))
#define LENET5C_POOL_RESCALE(a, m, s)                                                      \
    ((vec)rescale_twice_256((__m256i)(a), (__m256i)(m), s))
#define LENET5C_POOL_WORDS(p, a, b)                                                        \
    ((vec)finish_256(p, _mm256_packs_epi32((__m256i)(a), (__m256i)(b))))
#define LENET5C_POOL_WINDOWS(a, b)                                                         \
    ((vec)_mm256_madd_epi16(                                                               \
        _mm256_add_epi16((__m256i)(a), (__m256i)(b)), _mm256_set1_epi16(1)))
#define LENET5C_POOL_LARGEST(a, b) ((vec)pool_largest_256((__m256i)(a), (__m256i)(b)))
#define LENET5C_POOL_STORE(p, v, y) pool_store_256(p, (const __m256i *)(v), y)
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
#define LENET5C_FOUR(p, sums, m, i, R, to)                                                 \
    int8_four_256(p, (const __m256i *)(sums), m, i, R, to, 2)
#define LENET5C_POOL_GROUPS(x, odd) ((vec)pool_pairs_256(x, odd))
#define LENET5C_POOL_RESCALE(a, m, s)                                                      \
    ((vec)rescale_twice_256((__m256i)(a), (__m256i)(m), s))
#define LENET5C_POOL_WORDS(p, a, b)                                                        \
    ((vec)finish_256(p, _mm256_packs_epi32((__m256i)(a), (__m256i)(b))))
#define LENET5C_POOL_WINDOWS(a, b)                                                         \
    ((vec)_mm256_madd_epi16(                                                               \
        _mm256_add_epi16((__m256i)(a), (__m256i)(b)), _mm256_set1_epi16(1)))
#define LENET5C_POOL_LARGEST(a, b) ((vec)pool_largest_256((__m256i)(a), (__m256i)(b)))
#define LENET5C_POOL_STORE(p, v, y) pool_store_words_256(p, (const __m256i *)(v), y)
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

#if defined(LENET5C_AVXVNNI)
/* By the processor's own word: __builtin_cpu_supports knows the name in new compilers
 * alone. */
static int has_avxvnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

/* Whether this machine has its instructions. */
static int has_int8_set(const struct int8_kernels *kernels)
{
#if defined(LENET5C_X86)
    __builtin_cpu_init();
    if (kernels == &int8_kernels_avx512vnni)
        return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
#if defined(LENET5C_AVXVNNI)
    if (kernels == &int8_kernels_avxvnni)
        return __builtin_cpu_supports("avx2") && has_avxvnni();
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
