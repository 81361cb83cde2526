/* Decimal numbers as the double next to them, exactly. */

/* A whole number of any length, base 2^32, lowest digit first. */
struct big {
    int size;
    uint32_t digits[132];
};

static void big_multiply(struct big *b, uint32_t factor, uint32_t plus)
{
    uint64_t carry = plus;
    for (int i = 0; i < b->size; i++) {
        carry += (uint64_t)b->digits[i] * factor;
        b->digits[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry) b->digits[b->size++] = (uint32_t)carry;
}

static void big_scale(struct big *b, int tens, int twos)
{
    for (; tens > 0; tens--) big_multiply(b, 10, 0);
    for (; twos >= 31; twos -= 31) big_multiply(b, (uint32_t)1 << 31, 0);
    if (twos > 0) big_multiply(b, (uint32_t)1 << twos, 0);
}

/* Sign of decimal * 10^tens - mantissa * 2^twos */
static int compare_exactly(const struct big *decimal, int tens, uint64_t mantissa, int twos)
{
    struct big a = *decimal, b = {2, {(uint32_t)mantissa, (uint32_t)(mantissa >> 32)}};
    while (b.size > 0 && b.digits[b.size - 1] == 0) b.size--;
    big_scale(&a, tens, -twos);
    big_scale(&b, -tens, twos);
    if (a.size != b.size) return a.size < b.size ? -1 : 1;
    for (int i = a.size - 1; i >= 0; i--)
        if (a.digits[i] != b.digits[i]) return a.digits[i] < b.digits[i] ? -1 : 1;
    return 0;
}

/* Sign of the decimal number minus the middle between the double of these bits and the next
 * larger one. */
static int compare_to_middle(const struct big *decimal, int tens, uint64_t bits)
{
    const int exponent = (int)(bits >> 52);
    uint64_t mantissa = bits & (((uint64_t)1 << 52) - 1);
    if (exponent > 0) mantissa |= (uint64_t)1 << 52;
    return compare_exactly(
        decimal, tens, 2 * mantissa + 1, (exponent > 0 ? exponent : 1) - 1076);
}

/* The double next to the number at t, as Python reads it; 0 if it is no number. strtod
 * would depend on the locale. */
static int get_number(struct text t, double *value)
{
    enum { MAX_KEPT = 780 }; /* digits; one more stands for all beyond */
    const uint64_t infinity = (uint64_t)0x7ff << 52;
    struct big decimal = {0, {0}};
    int tens = 0, kept = 0, rest = 0, fraction = 0, negative = 0, exponent = 0;
    double guess = 0, power = 10;
    uint64_t bits;
    int32_t c = peek(t);
    if (c != '-' && (c < '0' || c > '9')) return 0;
    if (c == '-') {
        negative = 1;
        next(&t);
    }
    for (; ((c = peek(t)) >= '0' && c <= '9') || c == '.'; next(&t)) {
        if (c == '.') {
            fraction = 1;
        } else if (kept < MAX_KEPT) {
            if (kept > 0 || c != '0') kept++;
            if (kept > 0) big_multiply(&decimal, 10, (uint32_t)(c - '0'));
            tens -= fraction;
            if (kept <= 18) guess = guess * 10 + (c - '0');
        } else {
            rest |= c != '0';
            tens += !fraction;
        }
    }
    if (c == 'e' || c == 'E') {
        int down = 0;
        next(&t);
        if ((c = peek(t)) == '-' || c == '+') {
            down = c == '-';
            next(&t);
        }
        for (; (c = peek(t)) >= '0' && c <= '9'; next(&t))
            if (exponent < 1000000) exponent = exponent * 10 + (c - '0');
        tens += down ? -exponent : exponent;
    }
    if (rest) {
        big_multiply(&decimal, 10, 1);
        kept++;
        tens--;
    }
    bits = 0;
    if (kept > 0 && kept + tens > 310) bits = infinity;
    if (kept > 0 && kept + tens <= 310 && kept + tens > -330) {
        const int shift = tens + (kept > 18 ? kept - 18 : 0);
        for (int n = shift < 0 ? -shift : shift; n > 0; n >>= 1, power *= power)
            if (n & 1) guess = shift < 0 ? guess / power : guess * power;
        memcpy(&bits, &guess, sizeof bits);
        if (bits >= infinity) bits = infinity - 1;
        for (;;) { /* the guess is a few steps wrong at most */
            int sign;
            if (bits < infinity) {
                sign = compare_to_middle(&decimal, tens, bits);
                if (sign > 0 || (sign == 0 && bits % 2 == 1)) {
                    bits++;
                    continue;
                }
            }
            if (bits == 0) break;
            sign = compare_to_middle(&decimal, tens, bits - 1);
            if (sign > 0 || (sign == 0 && bits % 2 == 0)) break;
            bits--;
        }
    }
    memcpy(value, &bits, sizeof bits);
    if (negative) *value = -*value;
    return 1;
}
