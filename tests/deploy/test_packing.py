"""Weights of few bits in bytes: as docs/int8.md says, one digit after the other."""

import numpy as np
import pytest

from lenet5c import Bits
from lenet5c.deploy.packing import bytes_of_filter, fractions, packed, unpacked

# digits to this base, so many in a byte
FEW = {4: (16, 2), 2: (4, 4), "ternary": (3, 5)}


@pytest.fixture(params=FEW)
def bits(request: pytest.FixtureRequest) -> Bits:
    return Bits(request.param)


def random_weights(bits: Bits, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(bits.least, bits.most + 1, shape).astype(np.int8)


def digits_of(byte: int, bits: Bits) -> list[int]:
    base, count = FEW[bits.weights]
    return [byte // base**k % base for k in range(count)]


@pytest.mark.parametrize("shape", [(3, 2, 3, 5), (1, 1, 1, 1), (7, 20, 1, 1), (2, 11)])
def test_bytes_hold_digits_of_least_value_first(bits, shape):
    weight = random_weights(bits, *shape)
    found = packed(weight, bits)
    each = weight[0].size
    assert found.dtype == np.uint8
    assert found.shape == (len(weight), bytes_of_filter(each, bits))
    for row, one in zip(found, weight, strict=True):
        digits = [digit for byte in row for digit in digits_of(int(byte), bits)]
        assert [digit + bits.least for digit in digits[:each]] == one.ravel().tolist()
        assert not any(digits[each:])
    assert (unpacked(found, shape, bits) == weight).all()


def test_every_byte_is_read_or_refused(bits):
    base, count = FEW[bits.weights]
    for byte in range(256):
        digits = digits_of(byte, bits)
        right = byte < base**count and max(digits) <= bits.most - bits.least
        array = np.array([[byte]], np.uint8)
        if right:
            assert unpacked(array, (1, count), bits)[0].tolist() == [
                digit + bits.least for digit in digits
            ]
        else:
            with pytest.raises(ValueError, match=f"weights from {bits.least} to"):
                unpacked(array, (1, count), bits)


def test_what_fills_a_byte_has_to_be_zero(bits):
    base, count = FEW[bits.weights]
    array = packed(np.zeros((2, count + 1), np.int8), bits)
    array[1, -1] += base
    with pytest.raises(ValueError, match="zeros where"):
        unpacked(array, (2, count + 1), bits)


@pytest.mark.parametrize("taps", [1, 9, 25, 80, 150])
def test_fractions_give_digits_when_multiplied(bits, taps):
    base, count = FEW[bits.weights]
    rows = random_weights(bits, 3, taps)
    found = fractions(rows, bits).view(np.uint8)
    assert found.shape[1] == -(-taps // (4 * count)) * 4
    for row, wanted in zip(found.tolist(), rows, strict=True):
        got = np.zeros(len(row) * count, int)
        for place, byte in enumerate(row):
            rest = byte
            for k in range(count):
                digit, rest = divmod(rest * base, 256)
                got[place // 4 * 4 * count + 4 * k + place % 4] = digit + bits.least
        assert got[:taps].tolist() == wanted.tolist()
        assert not got[taps:].any()


@pytest.mark.parametrize("beyond", ["least", "most"])
def test_other_weights_are_refused(bits, beyond):
    weight = random_weights(bits, 2, 3)
    weight[1, 1] = bits.least - 1 if beyond == "least" else bits.most + 1
    with pytest.raises(ValueError, match=f"weights from {bits.least} to {bits.most}"):
        packed(weight, bits)
