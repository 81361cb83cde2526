"""Random numbers as functions of what they are for: no state, no order, no threads.

A run has a key, made of its seed and epoch; with the number of an image in the data set it
makes the image's key. From that come a sequence of doubles, for what is drawn once an
image, and with `lanes_uniform` one number for each element of a map.
"""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #define LENET5C_GOLDEN UINT64_C(0x9E3779B97F4A7C15)
    #define LENET5C_MIX_1 UINT64_C(0xBF58476D1CE4E5B9)
    #define LENET5C_MIX_2 UINT64_C(0x94D049BB133111EB)
    """
    const uint64_t GOLDEN "LENET5C_GOLDEN"  # 2^64 over the golden ratio
    const uint64_t MIX_1 "LENET5C_MIX_1"
    const uint64_t MIX_2 "LENET5C_MIX_2"


cdef inline uint64_t mix(uint64_t z) noexcept nogil:
    """The output function of splitmix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> 30)) * MIX_1
    z = (z ^ (z >> 27)) * MIX_2
    return z ^ (z >> 31)


cdef inline uint64_t subkey(uint64_t key, uint64_t number) noexcept nogil:
    """The key of one of many things under `key`."""
    return mix(mix(key) + (number + 1) * GOLDEN)


cdef inline double uniform(uint64_t *state, double low, double high) noexcept nogil:
    """The next number of splitmix64, in [low, high)."""
    state[0] += GOLDEN
    return low + (high - low) * <double>(mix(state[0]) >> 11) * 2.0 ** -53
