/* SHA-256 (FIPS 180-4). */

struct sha256 {
    uint32_t h[8];
    uint64_t length;
    unsigned char block[64];
};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256_block(uint32_t *h, const unsigned char *block)
{
    static const uint32_t k[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5,
        0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
        0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
        0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152,
        0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
        0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624,
        0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3,
        0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
        0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], a = h[0], b = h[1], c = h[2], d = h[3];
    uint32_t e = h[4], f = h[5], g = h[6], last = h[7];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        const uint32_t p = w[i - 15], q = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotate(p, 7) ^ rotate(p, 18) ^ p >> 3) +
               (rotate(q, 17) ^ rotate(q, 19) ^ q >> 10);
    }
    for (int i = 0; i < 64; i++) {
        const uint32_t s = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        const uint32_t t = last + s + ((e & f) ^ (~e & g)) + k[i] + w[i];
        const uint32_t r = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        const uint32_t m = (a & b) ^ (a & c) ^ (b & c);
        last = g;
        g = f;
        f = e;
        e = d + t;
        d = c;
        c = b;
        b = a;
        a = t + r + m;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
    h[5] += f;
    h[6] += g;
    h[7] += last;
}

static void sha256_add(struct sha256 *s, const unsigned char *bytes, size_t size)
{
    size_t at = s->length % 64;
    s->length += size;
    for (; size > 0; at = 0) {
        const size_t n = size < 64 - at ? size : 64 - at;
        if (n == 64) {
            sha256_block(s->h, bytes);
        } else {
            memcpy(s->block + at, bytes, n);
            if (at + n == 64) sha256_block(s->h, s->block);
        }
        bytes += n;
        size -= n;
    }
}

/* The digest in hexadecimal digits. */
static void sha256_end(struct sha256 *s, char *digits)
{
    static const unsigned char padding[64] = {0x80};
    const uint64_t bits = s->length * 8;
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)(bits >> (56 - 8 * i));
    sha256_add(s, padding, 1 + (119 - s->length % 64) % 64);
    sha256_add(s, length, 8);
    for (int i = 0; i < 64; i++)
        digits[i] = "0123456789abcdef"[s->h[i / 8] >> (28 - 4 * (i % 8)) & 15];
}
