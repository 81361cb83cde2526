"""
6. Small and fast
=================

Three ideas that promise smaller or faster networks: integers of 8 bits, convolution by
Fourier transforms, and gradient checkpointing. Each is good somewhere. We compute what
each brings for a network as small as LeNet-5, and where it starts to pay.

Times depend on the machine; those below are of the one that made this page. All else
should come out the same for you, but for last digits.
"""

import copy
from itertools import combinations, pairwise
from time import process_time
from timeit import repeat

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator
from scipy import fft
from scipy.signal import correlate2d, fftconvolve

import lenet5c
from lenet5c import functional

# sphinx_gallery_thumbnail_number = 3

data = lenet5c.datasets.digits()
images, labels = data.test
model = lenet5c.lenet5()
model.fit(*data.train)

print(
    f"{model.parameter_count:,} weights of 4 bytes: {4 * model.parameter_count:,} bytes"
)

# %%
# 8-bit integers
# --------------
# Many small processors have no floating point, and any processor reads one byte sooner
# than four. So weights and maps are written as whole numbers from -127 to 127, times a
# *scale*. The largest weight of a filter becomes 127 or -127; all others are rounded.

filter_ = model.parameters["C1.weight"][0, 0]  # (5, 5)
scale = abs(filter_).max() / 127
integers = np.rint(filter_ / scale).astype(np.int8)
print(integers)

assert abs(integers * scale - filter_).max() <= scale / 2 * 1.001

# %%
# No weight moves by more than half a step. ``quantize`` does that to all layers. It
# needs some images to find how large the maps become; with tanh that is known before.

quantized = model.quantize(data.train.images[:200])
first = quantized.layers[0]

assert (first.weight[0, 0] == integers).all()

# %%
# One value of C1 in integers. A table turns pixels into integers. Then come products
# and their sum, as ever. Now the sum is in steps of both scales, which is brought to
# steps of 1/256 by one multiplication and a shift of bits, a division by a power of
# two. Another table has the tanh of these.

i, j = 10, 8
window = quantized.table[images[0, i : i + 5, j : j + 5]].astype(int)
total = int(first.bias[0]) + (window * integers).sum()
multiplier, shift = int(first.multiplier[0]), first.shift
steps = (total * multiplier + (1 << (shift - 1))) >> shift
value = np.tanh(steps / 256)
print(f"sum {total}, x {multiplier} >> {shift} = {steps}, tanh {value:.3f}")

# The network's input begins two pixels before the image.
in_floats = model.activations(images[:1], "C1")[0, 0, i + 2, j + 2]
print(f"in floats {in_floats:.3f}")
assert abs(value - in_floats) < 0.02

# %%
# What is lost
# ------------
# The report compares both networks on the test images, layer by layer.

report = quantized.report(images, labels)
print(report)

names = [layer.name for layer in report.layers]
decibels = [layer.signal_to_noise for layer in report.layers]
figure, axis = plt.subplots(figsize=(5.6, 2.6), layout="constrained")
axis.bar(names, decibels)
axis.set(title="int8, layer by layer", ylabel="signal to noise, dB")
plt.show()

assert min(decibels) > 30
assert report.accuracy > report.float_accuracy - 0.01
assert report.agreement > 0.99
assert 4 * model.parameter_count > 3.5 * report.weight_bytes

# %%
# Nearly four times smaller, and hardly an image changes its class. The signal-to-noise
# ratio says how large the error of a map is: at 20 dB a tenth of the values, at 40 dB a
# hundredth. It does not fall from layer to layer, although errors could add up: each
# value is a sum of many products, in which errors of both signs cancel each other.
#
# How few bits would do? We round the weights to fewer levels, leave the maps as floats,
# and look at the scores.


def rounded(model, bits):
    """A copy of the model whose weights have 2 ** bits - 1 levels in each filter."""
    result = copy.deepcopy(model)
    top = 2 ** (bits - 1) - 1
    for name, weight in result.parameters.items():
        if name.endswith("weight"):
            rows = weight.reshape(len(weight), -1)  # a row for each filter
            scale = abs(rows).max(axis=1, keepdims=True) / top
            rows[:] = np.rint(rows / scale) * scale
    return result


wanted = model.forward(images)
bits = np.arange(2, 9)
accuracy, decibels = [], []
for b in bits:
    other = rounded(model, b)
    error = other.forward(images) - wanted
    accuracy.append(other.evaluate(images, labels).accuracy)
    decibels.append(10 * np.log10(np.square(wanted).sum() / np.square(error).sum()))

figure, axes = plt.subplots(1, 2, figsize=(6.2, 2.8), layout="constrained")
axes[0].plot(bits, decibels, "o-")
axes[0].set(xlabel="bits of a weight", ylabel="signal to noise of scores, dB")
axes[1].plot(bits, 100 * np.array(accuracy), "o-")
axes[1].set(xlabel="bits of a weight", ylabel="test accuracy, %", ylim=(90, 100))
plt.show()

a_bit = (decibels[-1] - decibels[2]) / 4  # from 4 to 8 bits
print(f"{a_bit:.1f} dB a bit")
assert 4.5 < a_bit < 7.5
assert min(accuracy[1:]) > report.float_accuracy - 0.03

# %%
# A bit more halves the steps, and so the error: a factor of 2 is 6 dB. The accuracy
# does not care for a long time, because a class is right as long as its score is the
# largest, by whatever margin. Digits this neat are an easy task, with wide margins.
# Harder tasks need more bits.
#
# Convolution by Fourier transforms
# ---------------------------------
# The transform of a convolution is the product of the transforms, so a convolution can
# be computed by fast Fourier transforms (FFT), and for large kernels it should be.
# ``scipy.signal.fftconvolve`` does that for one map and one kernel. For a whole layer,
# each map and each kernel needs to be transformed only once.


def in_pairs(convolve):
    """A layer by a function of one map and one kernel."""

    def layer(x, weight):
        return np.array(
            [[sum(map(convolve, maps, kernels)) for kernels in weight] for maps in x]
        )

    return layer


def by_fft(x, weight):
    """x (N, C, H, W), weight (F, C, K, K) -> (N, F, H - K + 1, W - K + 1)"""
    size = x.shape[2:]
    maps, kernels = fft.rfft2(x), fft.rfft2(weight, size).conj()
    y = fft.irfft2(np.einsum("nchw,fchw->nfhw", maps, kernels), size)
    rows = size[0] - weight.shape[2] + 1
    columns = size[1] - weight.shape[3] + 1
    return y[:, :, :rows, :columns]


METHODS = {  # and with how many images at a time
    "correlate2d": (in_pairs(lambda a, b: correlate2d(a, b, "valid")), 1),
    "fftconvolve": (in_pairs(lambda a, b: fftconvolve(a, b[::-1, ::-1], "valid")), 1),
    "FFT, layer": (by_fft, 64),
    "lenet5c": (lambda x, weight: functional.conv2d(x, weight, threads=1), 64),
}
LAYERS = {"C1": (1, 6, 32, 5), "C3": (6, 16, 14, 5), "C5": (16, 120, 5, 5)}
rng = np.random.default_rng(0)


def operands(count, channels, filters, side, kernel):
    """Random maps and kernels, float32."""
    x = rng.standard_normal((count, channels, side, side), np.float32)
    return x, rng.standard_normal((filters, channels, kernel, kernel), np.float32)


def microseconds(function, x, weight):
    """The processor's time for one image, the best of nine runs."""
    runs = repeat(lambda: function(x, weight), process_time, number=1, repeat=9)
    return 1e6 * min(runs) / len(x)


print("microseconds for one image")
print(" " * 11, *(f"{layer:>8}" for layer in LAYERS))
for name, (method, count) in METHODS.items():
    times = []
    for shape in LAYERS.values():
        x, weight = operands(count, *shape)
        assert np.allclose(method(x, weight), functional.conv2d(x, weight), atol=1e-3)
        times.append(microseconds(method, x, weight))
    print(f"{name:11}", *(f"{time:8.0f}" for time in times))

# %%
# All four are the same sums; look at how far apart their times are. Is it the number of
# operations? An FFT of S points takes about 5 S log2(S) additions and multiplications,
# half of that for real numbers. We count those of a layer for one image.


def plain(channels, filters, side, kernel):
    """A multiplication and an addition for each weight at each place."""
    return 2 * channels * filters * (side - kernel + 1) ** 2 * kernel**2


def pairs(channels, filters, side, kernel):
    """Three transforms, and a product of spectra, for each map and kernel."""
    points = (side + kernel - 1) ** 2
    return channels * filters * (3 * 2.5 * points * np.log2(points) + 3 * points)


def shared(channels, filters, side, kernel):
    """A transform for each map, before and after, and products that are added up."""
    points = side**2
    transforms = 2.5 * points * np.log2(points) * (channels + filters)
    return transforms + channels * filters * 4 * points  # kernels: once for all images


print("thousand operations for one image")
print(" " * 11, *(f"{layer:>8}" for layer in LAYERS))
for name, count in {"sum": plain, "FFT, pairs": pairs, "FFT, layer": shared}.items():
    print(f"{name:11}", *(f"{count(*LAYERS[one]) / 1000:8.0f}" for one in LAYERS))

assert all(pairs(*shape) > 2 * plain(*shape) for shape in LAYERS.values())
assert shared(*LAYERS["C1"]) > 0.8 * plain(*LAYERS["C1"])
assert shared(*LAYERS["C3"]) < 0.4 * plain(*LAYERS["C3"])
assert shared(*LAYERS["C5"]) > 2 * plain(*LAYERS["C5"])

# %%
# ``fftconvolve`` needs more operations than the sum for each of the three layers. With
# shared transforms it depends on the layer: C1 is a draw, C3 would need a third of the
# sum's operations, and C5, whose maps have one value, more than
# twice as many.
#
# So why does FFT not win C3? Because operations are not all alike. The sums read memory
# in order, and each number that is read serves many products: a core does 16 or 32
# operations at once. Transforms of 14 x 14 points jump to and fro in memory, with
# complex numbers, and between them is one small product of matrices for each frequency.
# (``fit`` saves nearly as much by short transforms of real numbers that jump nowhere: 8
# products in place of 20.)
#
# Where does FFT win? Its cost does not grow with the kernel. Maps of 64 x 64, six to
# sixteen:

kernels = np.array([3, 5, 7, 9, 12, 16, 21, 27])
methods = {"sum": METHODS["lenet5c"][0], "FFT, layer": by_fft}
times = {
    name: [microseconds(method, *operands(16, 6, 16, 64, k)) for k in kernels]
    for name, method in methods.items()
}

figure, axes = plt.subplots(1, 2, figsize=(6.2, 3.2), layout="constrained")
for count, name in [(plain, "sum"), (shared, "FFT, layer"), (pairs, "FFT, pairs")]:
    millions = [count(6, 16, 64, k) / 1e6 for k in kernels]
    axes[0].loglog(kernels, millions, "o-", label=name)
axes[0].set(title="counted", ylabel="million operations, one image")
for name, values in times.items():
    axes[1].loglog(kernels, np.array(values) / 1000, "o-", label=name)
axes[1].set(title="measured", ylabel="milliseconds, one image")
for axis in axes:
    axis.set_xlabel("rows of the kernel")
    axis.set_xticks(kernels, kernels)
    axis.set_xticks([], minor=True)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_yticks([], minor=True)
    axis.legend(fontsize="small")
plt.show()

assert plain(6, 16, 64, 5) < pairs(6, 16, 64, 5)
assert plain(6, 16, 64, 15) > pairs(6, 16, 64, 15)

# %%
# By the count, pairs win from about 9 rows on, and shared transforms nearly at once. By
# the clock they win where the lines cross in the right picture. Where a core works on
# 8 or 16 numbers at once (AVX2, AVX-512), we saw that between 7 and 15 rows. LeNet-5's
# kernels have 5.
#
# Gradient checkpointing
# ----------------------
# The backward pass needs the maps of the forward pass, so training keeps them all.
# *Gradient checkpointing* keeps a few, and computes the others again from those when
# their turn comes. That is less memory for more time. Is there much to save here?

layers = ["C1", "S2", "C3", "S4", "C5", "F6", "OUTPUT"]
values = [model.activations(images[:1], layer).size for layer in layers]
products = []
for layer, size in zip(layers, values, strict=True):
    weight = model.parameters.get(f"{layer}.weight")  # none in S2 and S4
    products.append(0 if weight is None else weight[0].size * size)
inputs = 32 * 32

assert sum(products) == model.multiply_adds
everything = inputs + sum(values)

batch = 64
print(f"maps of {batch} images: {4 * batch * everything:9,} bytes")
print(f"weights:           {4 * model.parameter_count:9,} bytes")
assert batch * everything > 9 * model.parameter_count

# %%
# Maps are the larger part: nine times the weights, at a batch of 64. Now all ways to
# keep some of the maps. The memory of a plan is the most that is held at any time: at
# the end of the forward pass, or while a piece between two kept maps is computed again.
# The last piece is used at once and never computed twice.


def plan(kept, values, products):
    """(most values held, multiply-adds done twice) if the maps `kept` are kept."""
    ends = [-1, *sorted(kept), len(values) - 1]
    held, again, most = inputs, 0, 0
    for start, end in pairwise(ends):
        between = sum(values[start + 1 : end])
        last = end == ends[-1]
        held += values[end]
        most = max(most, held + between)
        again += 0 if last else sum(products[start + 1 : end])
    return most, again


plans = {
    kept: plan(kept, values, products)
    for count in range(len(layers))
    for kept in combinations(range(len(layers) - 1), count)
}
least = min(most for most, _ in plans.values())
cheapest = min(again for most, again in plans.values() if most == least)
memory, again = least / everything, cheapest / sum(products)
print(f"at best {memory:.0%} of the memory, for {again:.0%} of a forward pass")

assert plans[tuple(range(len(layers) - 1))] == (everything, 0)
assert memory > 0.7
assert cheapest == products[0]  # those of C1

figure, axes = plt.subplots(1, 2, figsize=(6.2, 3.2), layout="constrained")
axes[0].bar(["input", *layers], np.array([inputs, *values]) * 4 / 1000)
axes[0].tick_params(axis="x", rotation=90)
axes[0].set(title="maps of one image", ylabel="kB")
points = np.array(list(plans.values())) / (everything, sum(products)) * 100
axes[1].scatter(*points.T, alpha=0.6)
line = {"arrowstyle": "-"}
axes[1].annotate("all kept", (100, 0), (35, 8), arrowprops=line)
best = 100 * memory, 100 * again
axes[1].annotate("C1 again", best, (15, 40), arrowprops=line)
axes[1].set(title="choices of maps to keep")
axes[1].set(xlabel="memory for maps, %", ylabel="forward pass done again, %")
axes[1].set(xlim=(0, 105))
plt.show()

# %%
# Half of all values are C1's, and while C1 is computed again they are all there. So a
# quarter of the memory is the most that can be saved, half a megabyte for a batch of
# 64. The price is C1's forward pass, about a tenth of a training step, as the backward
# pass takes about twice as long as the forward pass. (The points near 93 % leave out
# S2, whose means cost next to nothing.)
#
# It pays in deep networks. Of a hundred equal layers keep every tenth map: ten of them,
# and the ten of the piece at hand.

hundred = [inputs] * 100
most, again = plan(range(9, 99, 10), hundred, hundred)
print(f"{most / sum(hundred):.0%} of the memory, {again / sum(hundred):.0%} done again")
assert most < 0.22 * sum(hundred)

# %%
# For LeNet-5 there is a better way. No layer mixes the images of a batch, so the
# gradient of the batch is the mean of the gradients of its parts: then nothing needs
# to be computed twice. lenet5c takes 16 images or fewer through all layers and
# back before it takes the next, whatever the batch, and their maps stay in the
# processor's cache.

batch_images, batch_labels = data.train.images[:64], data.train.labels[:64]
_, whole = model.loss_and_gradients(batch_images, batch_labels)
parts = [
    model.loss_and_gradients(batch_images[k : k + 16], batch_labels[k : k + 16])[1]
    for k in range(0, 64, 16)
]
for name, gradient in whole.items():
    mean = np.mean([part[name] for part in parts], axis=0)
    assert np.allclose(gradient, mean, atol=1e-5)

print(f"maps of 16 images: {4 * 16 * everything:,} bytes")

# %%
# What to try next
# ----------------
# - Round the maps to fewer bits as well. Which layer suffers first?
# - Quantize a network with ``activation="relu"``: its scales come from the calibration
#   images. What do 2 of them do, or images of another kind?
# - Count the operations of ``lenet5c.resnet18()``, whose kernels have three rows.
# - For which input size do LeNet-5's maps of a batch of 64 take a gigabyte?
# - ``quantized.export_c("digits.h")`` writes the integers as C code for a processor
#   without floating point.
