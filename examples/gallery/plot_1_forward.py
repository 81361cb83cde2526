"""
1. From loops to lanes
======================

A forward pass of LeNet-5 takes 416,520 multiplications, and as many additions. Here it
is computed in seven ways. Each gives the same ten numbers; they differ in what a single
step works on, and so in how long they take.

You need Python, a little NumPy, and to know what a sum of products is.
"""

# %%
# Images and a network
# --------------------
#
# scikit-learn's small digits need no download. They are 28 x 28 bytes, and LeNet-5
# takes 32 x 32 pixels: two rows and two columns of black are added at each side. In the
# comments, N is the number of images, C of channels, F of filters, and H x W of pixels.

from timeit import repeat

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import convolve2d, correlate2d

import lenet5c
from lenet5c import functional, reference


def prepare(images):
    """(N, 28, 28) uint8 -> (N, 1, 32, 32) float32 from 0 to 1"""
    sides = ((0, 0), (0, 0), (2, 2), (2, 2))
    return np.pad(images[:, None] / np.float32(255), sides)


data = lenet5c.datasets.digits()
model = lenet5c.lenet5(seed=0)
model.fit(prepare(data.train.images), data.train.labels, epochs=5)

x = prepare(data.test.images[:256])
weights = {name: np.array(w) for name, w in model.parameters.items()}

print(model.summary())

# %%
# One number of a feature map
# ---------------------------
#
# C1 has six kernels of 5 x 5 weights. A kernel is laid on a window of the image, each
# weight is multiplied by the pixel under it, and the products are added up. With the
# bias, and after tanh, this is one number of a feature map.

i, j = 14, 17
window = x[0, 0, i : i + 5, j : j + 5]
kernel = weights["C1.weight"][0, 0]
products = window * kernel
total = products.sum() + weights["C1.bias"][0]

c1 = model.activations(x[:1], "C1")
assert np.isclose(np.tanh(total), c1[0, 0, i, j], atol=1e-5)

figure, axes = plt.subplots(2, 2, figsize=(5, 5), layout="constrained")
axes[0, 0].imshow(x[0, 0], cmap="gray_r")
corner = j - 0.5, i - 0.5
square = plt.Rectangle(corner, 5, 5, fill=False, ec="C3", lw=3)
axes[0, 0].add_patch(square)
axes[0, 0].set_title("image")
parts = [("window", window), ("kernel", kernel), ("products", products)]
for axis, (title, values) in zip(axes.flat[1:], parts, strict=True):
    top = abs(values).max()
    axis.imshow(values, cmap="RdBu", vmin=-top, vmax=top, alpha=0.5)
    for (row, column), value in np.ndenumerate(values):
        axis.text(column, row, f"{value:.2f}", ha="center", va="center")
    axis.set_title(title)
for axis in axes.flat:
    axis.axis("off")
figure.supxlabel(f"with bias {total:.2f}, after tanh {np.tanh(total):.2f}")
plt.show()

# %%
# The network around the convolutions
# -----------------------------------
#
# Nearly all of the products are in the three convolutions, so only these will change.
# The rest of the network is written once, and is given the convolution to use.


def avg_pool(x):
    """Mean of 2 x 2 pixels: (N, C, H, W) -> (N, C, H / 2, W / 2)"""
    rows = x[:, :, ::2] + x[:, :, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def forward(x, conv2d):
    """(N, 1, 32, 32) -> logits (N, 10)"""

    def layer(name):
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def dense(x, weight, bias):
        return x @ weight.T + bias

    s2 = avg_pool(np.tanh(conv2d(x, *layer("C1"))))  # 6@14x14
    s4 = avg_pool(np.tanh(conv2d(s2, *layer("C3"))))  # 16@5x5
    c5 = np.tanh(conv2d(s4, *layer("C5")))  # 120@1x1
    f6 = np.tanh(dense(c5.reshape(len(x), 120), *layer("F6")))
    return dense(f6, *layer("OUTPUT"))


# %%
# Each way is compared with the model itself, and timed: the best of three runs, divided
# by the number of images.

expected = model.forward(x)
microseconds = {}


def measure(name, count, function, *arguments):
    def run():
        return function(x[:count], *arguments)

    assert np.allclose(run(), expected[:count], atol=1e-4)
    microseconds[name] = min(repeat(run, number=1, repeat=3)) / count * 1e6
    print(f"{name}: {microseconds[name]:,.0f} µs an image")


# %%
# Python loops
# ------------
#
# The definition, word by word: six loops, and in the innermost one product. Nothing
# more is needed to understand a convolution.


def convolve(x, weight, bias):
    """(C, H, W), (F, C, K, K), (F,) -> (F, H - K + 1, W - K + 1)"""
    filters, channels, size, _ = weight.shape
    rows, columns = x.shape[1] - size + 1, x.shape[2] - size + 1
    more = x.shape[3:]  # nothing, until we come to lanes
    y = np.empty((filters, rows, columns, *more), np.float32)
    for f in range(filters):
        for i in range(rows):
            for j in range(columns):
                total = bias[f]
                for c in range(channels):
                    for k in range(size):
                        for m in range(size):
                            pixel = x[c, i + k, j + m]
                            total = total + weight[f, c, k, m] * pixel
                y[f, i, j] = total
    return y


def in_loops(x, weight, bias):
    return np.stack([convolve(image, weight, bias) for image in x])


measure("Python loops", 1, forward, in_loops)

# %%
# Each product costs a good part of a microsecond: Python looks up names, makes objects
# of the numbers, and checks indices. The multiplication itself takes a processor less
# than a nanosecond. All that follows is about doing more in one step.

# %%
# SciPy: a map in one step
# ------------------------
#
# ``scipy.signal.correlate2d`` moves one kernel over one map, in compiled code. Loops
# over images, filters and channels are left: 2,022 calls for each image.


def by_scipy(x, weight, bias):
    size = weight.shape[2] - 1
    shape = len(x), len(weight), x.shape[2] - size, x.shape[3] - size
    y = np.empty(shape, np.float32)
    for n, image in enumerate(x):
        for f, kernels in enumerate(weight):
            y[n, f] = bias[f]
            for pixels, kernel in zip(image, kernels, strict=True):
                y[n, f] += correlate2d(pixels, kernel, mode="valid")
    return y


assert 6 * 1 + 16 * 6 + 120 * 16 == 2022  # filters times channels

measure("SciPy", 4, forward, by_scipy)

# %%
# It is *correlate* for a reason. What this field calls a convolution lays the kernel on
# the image as it is. ``scipy.signal.convolve2d`` and ``scipy.ndimage.convolve`` turn it
# by 180 degrees first, and so compute another network. Articles that advise one of
# these for speed have met one of the easiest mistakes to make here.

convolved = convolve2d(x[0, 0], kernel, mode="valid")
correlated = correlate2d(x[0, 0], kernel, mode="valid")
turned = correlate2d(x[0, 0], kernel[::-1, ::-1], mode="valid")

assert not np.allclose(convolved, correlated, atol=0.1)
assert np.allclose(convolved, turned, atol=1e-5)

# %%
# Taps: all pixels in one step
# ----------------------------
#
# A sum may be taken in any order. With the loops over the 25 places of the kernel, its
# *taps*, outside, one step serves all images, channels and pixels: the part of the map
# that lies under this tap, times a small matrix of weights. That makes 75 steps for any
# number of images. ``lenet5c.reference``, with which the tests of this package compare
# each kernel, is written like this.


def by_taps(x, weight, bias):
    size = weight.shape[2]
    rows, columns = x.shape[2] - size + 1, x.shape[3] - size + 1
    y = bias[:, None, None, None]  # (F, N, rows, columns)
    for k in range(size):
        for m in range(size):
            under = x[:, :, k : k + rows, m : m + columns]
            y = y + np.tensordot(weight[:, :, k, m], under, axes=(1, 1))
    return y.swapaxes(0, 1)


c1 = weights["C1.weight"], weights["C1.bias"]
assert np.allclose(by_taps(x, *c1), reference.conv2d(x, *c1), atol=1e-5)

measure("taps", 64, forward, by_taps)

# %%
# im2col: one product of matrices
# -------------------------------
#
# Or one step for everything. Each window becomes a row of a matrix, each kernel a
# column of another, and their product has all the sums. Libraries of linear algebra do
# nothing better than this product.


def im2col(x, size):
    """(N, C, H, W) -> a row of C * K * K pixels for each window"""
    windows = sliding_window_view(x, (size, size), axis=(2, 3))
    n, c, rows, columns, _, _ = windows.shape
    windows = windows.transpose(0, 2, 3, 1, 4, 5)
    return windows.reshape(n * rows * columns, c * size * size)


def by_im2col(x, weight, bias):
    filters, _, size, _ = weight.shape
    y = im2col(x, size) @ weight.reshape(filters, -1).T + bias
    rows, columns = x.shape[2] - size + 1, x.shape[3] - size + 1
    return y.reshape(len(x), rows, columns, filters).transpose(0, 3, 1, 2)


measure("im2col", 64, forward, by_im2col)

# %%
# This is what ``im2col`` lays out for a map of 5 x 5 pixels and a kernel of 3 x 3. A
# colour is a pixel. The one in the middle is in nine windows, and is there nine times.

pixels = np.arange(25).reshape(1, 1, 5, 5)
matrix = im2col(pixels, 3)
assert (matrix == 12).sum() == 9

figure, axes = plt.subplots(
    1, 2, figsize=(5.6, 3.6), width_ratios=(5, 9), layout="constrained"
)
for axis, values in zip(axes, (pixels[0, 0], matrix), strict=True):
    axis.imshow(values, alpha=0.6)
    for (row, column), value in np.ndenumerate(values):
        axis.text(column, row, value, ha="center", va="center")
    axis.set(xticks=[], yticks=[])
axes[0].set(title="the map")
axes[1].set(title="its matrix", xlabel="9 taps", ylabel="9 windows")
plt.show()

# %%
# The matrix of C1 is 19 times as large as the image. It is written to memory, read
# again, and thrown away.

assert round(im2col(x[:1], 5).size / x[:1].size) == 19

# %%
# Lanes: one image in each
# ------------------------
#
# A processor multiplies 4, 8 or 16 pairs of numbers in one instruction, in the *lanes*
# of its registers. Which numbers should these be? Neighbouring pixels of a row suggest
# themselves, but the rows of the three layers have 28, 10 and 1. In registers of 16,
# many lanes stay empty.

for name, columns in {"C1": 28, "C3": 10, "C5": 1}.items():
    lanes = 16 * np.ceil(columns / 16)
    print(f"{name}: {columns / lanes:.0%} of the lanes are used")

# %%
# The same pixel of 16 *images* fills them always, in every layer. So images are
# interleaved in memory: one pixel of all images, then the next pixel of all images.
# Here are four images of 2 x 2 pixels. A colour is an image, a number is a pixel, and a
# thick frame is a register.

image, pixel = np.indices((4, 4))
orders = [
    ("image after image", image, pixel),
    ("in lanes", image.T, pixel.T),
]
colours = ListedColormap(["C0", "C1", "C2", "C4"])

figure, axes = plt.subplots(2, 1, figsize=(5.6, 1.8), layout="constrained")
for axis, (title, images, numbers) in zip(axes, orders, strict=True):
    axis.imshow(images.reshape(1, 16), cmap=colours, alpha=0.6)
    for place, number in enumerate(numbers.flat):
        axis.text(place, 0, number, ha="center", va="center")
    axis.set(title=title, xticks=[], yticks=[])
for place in range(0, 16, 4):
    frame = plt.Rectangle((place - 0.5, -0.5), 4, 1, fill=False, lw=3)
    axes[1].add_patch(frame)
plt.show()

# %%
# With that the six loops return, as they were. ``convolve`` does not know how many
# images it is given: ``x[c, i + k, j + m]`` was one pixel, and is now the same pixel of
# 256 images. Nothing is laid out, no row has a remainder, and no step mixes two pixels
# of an image.


def in_lanes(x, weight, bias):
    lanes = np.ascontiguousarray(np.moveaxis(x, 0, -1))  # (C, H, W, N)
    return convolve(lanes, weight, bias).transpose(3, 0, 1, 2)


measure("loops over lanes", 256, forward, in_lanes)

# %%
# In Python this does not pay yet. NumPy needs a microsecond or more for each step, of
# which there are as many as before, and 256 images share it. In compiled code the step
# is one instruction. That is how the core of this package is written: loops as in
# ``convolve``, where each number is a register.

print(lenet5c.build_info()["lanes"], "images in a register here")

# %%
# Tiles: load little, multiply much
# ---------------------------------
#
# An instruction takes its numbers from registers, and to load them costs time as well.
# For a single sum, each product needs two loads, a weight and a pixel. For a *tile* of
# sums, 4 filters at 5 neighbouring columns, 9 loads are enough for 20 products.

figure, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")


def box(column, row, text, colour):
    corner = column - 0.45, row - 0.45
    square = plt.Rectangle(corner, 0.9, 0.9, color=colour, alpha=0.4)
    axis.add_patch(square)
    axis.text(column, row, text, ha="center", va="center")


for column in range(5):
    box(column, -1, f"x{column}", "C0")
for row in range(4):
    box(-1, row, f"w{row}", "C1")
for row, column in np.ndindex(4, 5):
    box(column, row, f"+ w{row} x{column}", "C7")
axis.set(xlim=(-1.5, 4.5), ylim=(3.5, -1.5))
axis.axis("off")
plt.show()

# %%
# The same tile in NumPy, at the upper left of C3's first four maps. Its 20 sums stay
# where they are until all taps of all 6 channels are done.

s2 = avg_pool(np.tanh(by_im2col(x, *c1)))
weight = weights["C3.weight"]
lanes = s2.transpose(1, 2, 3, 0)  # (C, H, W, N)

tile = np.zeros((4, 5, len(x)), np.float32)
for c, k, m in np.ndindex(6, 5, 5):
    tile += weight[:4, c, k, m, None, None] * lanes[c, k, m : m + 5]

sums = functional.conv2d(s2, weight)[:, :4, 0, :5]
assert np.allclose(tile.transpose(2, 0, 1), sums, atol=1e-4)

# %%
# How large may a tile be? AVX-512 has 32 registers, for the sums, the shorter side of
# what is loaded, and one number of the longer side. A single sum, and three tiles of
# the core:

for filters, columns in [(1, 1), (12, 1), (4, 5), (6, 4)]:
    sums = filters * columns
    loads = (filters + columns) / sums
    registers = sums + min(filters, columns) + 1
    name = f"{filters} x {columns}"
    print(f"{name:>6}: {registers:2} registers, {loads:.2f} loads a product")
    assert registers <= 32

# %%
# Compiled
# --------
#
# ``lenet5c.functional.conv2d`` is lanes and tiles in compiled code, and can be called
# like each convolution above. ``lenet5c.article`` is the class of the usual article
# with it.

measure("compiled layers", 256, forward, functional.conv2d)

# %%
# The model does more. The images of a register go through all layers while their maps
# are in the cache. tanh and averages are taken on the way. C1 and C3 are computed by
# short transforms, with 0.4 of the products. And all cores take part: that pays where
# nothing else keeps them busy.


def on_one_core(x):
    return model.forward(x, threads=1)


measure("model, one core", 256, on_one_core)
measure("model, all cores", 256, model.forward)

# %%
# All together
# ------------
#
# The same ten numbers each time, of which ``measure`` has made sure. The axis is
# logarithmic: from one line to the next it is ten times as long.

figure, axis = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
bars = axis.barh(list(microseconds), microseconds.values())
axis.bar_label(bars, fmt="{:,.0f}", padding=3)
axis.invert_yaxis()
axis.set(xscale="log", xlim=(0.3, 1e7), xlabel="µs an image")
axis.grid(axis="x", alpha=0.4)
plt.show()

# %%
# What to try next
# ----------------
#
# - ``measure`` with 1, 16 and 256 images. Which ways need many of them, and why?
# - Write ``avg_pool`` in lanes, so that ``forward`` interleaves the images only once.
# - Compute C1 by ``scipy.signal.fftconvolve``. From which size of the kernel on does it
#   pay?
# - Read *Design* in this documentation: what keeps a tile in its registers.
# - The next lesson goes the way back: *Backward by hand*.
