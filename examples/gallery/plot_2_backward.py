"""
2. Backward by hand
===================

Training needs the gradient: for each of LeNet-5's 61,706 weights, how much the loss
changes when this weight does. Here each part of it is derived, written in a few lines
of NumPy, and checked in two ways: by differences, and with the compiled core.

You need the chain rule for derivatives, and the forward pass of the lesson before.
"""

# %%
# Eight images, in float64
# ------------------------
#
# The weights are those of a new network. Everything is computed in float64, with 16
# digits, so that the differences below have digits left. The letters in comments are N
# images, C channels in, F filters, H x W pixels and K x K kernels.

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import lenet5c

data = lenet5c.datasets.digits()
sides = ((0, 0), (0, 0), (2, 2), (2, 2))
x = np.pad(data.train.images[:8, None] / 255, sides)  # (8, 1, 32, 32)
labels = data.train.labels[:8]

model = lenet5c.lenet5(seed=0)
weights = {name: w.astype(float) for name, w in model.parameters.items()}
rng = np.random.default_rng(0)

# %%
# One step at a time
# ------------------
#
# A network is a chain of steps, and its loss L is one number at the end. A step makes y
# of x and of its weights w. Suppose that we know how L changes with each y, and write
# dy for that:
#
# .. math:: dy_j = \frac{\partial L}{\partial y_j}
#
# Then the chain rule gives the same for x and for w, by how each y changes with them:
#
# .. math:: dx_i = \sum_j dy_j \frac{\partial y_j}{\partial x_i}
#
# .. math:: dw_i = \sum_j dy_j \frac{\partial y_j}{\partial w_i}
#
# With dw the weights are changed. dx is the dy of the step before. So the gradient goes
# through the chain from its end to its beginning, and each step has to know only
# itself.

# %%
# A judge that knows no calculus
# ------------------------------
#
# A gradient can be measured: change one number a little up and a little down, and see
# what becomes of the loss.
#
# .. math:: \frac{\partial L}{\partial w} \approx \frac{L(w + h) - L(w - h)}{2 h}
#
# For all weights that would be 123,412 forward passes, so it is no way to train. To
# check formulas, twenty numbers of an array are enough.


def slope(loss, array, place, h=1e-5):
    """How loss() changes with the number at a place of the array"""
    before = array[place]
    array[place] = before + h
    above = loss()
    array[place] = before - h
    below = loss()
    array[place] = before
    return (above - below) / (2 * h)


def some_places(array, count=20):
    count = min(count, array.size)
    places = rng.choice(array.size, count, replace=False)
    return [np.unravel_index(place, array.shape) for place in places]


def check(gradient, array, loss):
    assert gradient.shape == array.shape
    for place in some_places(array):
        measured = slope(loss, array, place)
        assert np.isclose(gradient[place], measured, atol=1e-8)


# %%
# A single step is checked with a loss that is made up for it: the sum of its outputs,
# each multiplied by some number. These numbers are then its dy.

# %%
# The end: softmax and cross-entropy
# ----------------------------------
#
# The network ends with logits z, one for each class. Softmax makes probabilities p of
# them. The loss is the mean over the images of -log p of their true classes t.
#
# .. math:: p_{nk} = \frac{e^{z_{nk}}}{\sum_j e^{z_{nj}}}
#
# .. math:: L = \frac{1}{N} \sum_n \left( \log \sum_j e^{z_{nj}} - z_{n t_n} \right)
#
# The derivative of the logarithm of the sum by one logit is the probability of its
# class. What is subtracted adds -1 for the true class. With y for the truth, 1 for that
# class and 0 for the others:
#
# .. math:: dz_{nk} = \frac{p_{nk} - y_{nk}}{N}


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)  # or exp would overflow
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def cross_entropy(z, labels):
    return -log_softmax(z)[np.arange(len(z)), labels].mean()


def cross_entropy_backward(z, labels):
    dz = np.exp(log_softmax(z))
    dz[np.arange(len(z)), labels] -= 1
    return dz / len(z)


z = rng.normal(size=(8, 10))
dz = cross_entropy_backward(z, labels)
check(dz, z, lambda: cross_entropy(z, labels))

# %%
# Probability minus truth: a class that was thought too likely is pushed down, the true
# one is pulled up.

# %%
# Loss and gradient have to belong together. Articles often take the logarithm of p +
# 1e-8, so that log(0) cannot happen. That also puts a ceiling on the loss, at 18.4.
# There it is flat, while probability minus truth still says 1. Above, the logarithm was
# taken before anything could become 0.

z = np.array([[100.0, 0.0]])  # sure of class 0, and it is class 1


def with_ceiling():
    return -np.log(np.exp(log_softmax(z))[0, 1] + 1e-8)


assert np.isclose(cross_entropy(z, [1]), 100)
assert np.isclose(with_ceiling(), 18.4, atol=0.1)
assert np.isclose(cross_entropy_backward(z, [1])[0, 0], 1)
assert np.isclose(slope(lambda: cross_entropy(z, [1]), z, (0, 0)), 1)
assert np.isclose(slope(with_ceiling, z, (0, 0)), 0)

# %%
# A dense layer
# -------------
#
# Output o of image n is a bias and a sum over all inputs:
#
# .. math:: y_{no} = b_o + \sum_i w_{oi} x_{ni}
#
# A weight is in one product for each image, and there it is multiplied by an input. An
# input is in one product for each output, and there it is multiplied by a weight:
#
# .. math:: dw_{oi} = \sum_n dy_{no} \, x_{ni}
#
# .. math:: dx_{ni} = \sum_o dy_{no} \, w_{oi}
#
# .. math:: db_o = \sum_n dy_{no}
#
# These sums are products of matrices.


def dense(x, w, b):
    return x @ w.T + b


def dense_backward(x, w, dy):
    return dy @ w, dy.T @ x, dy.sum(axis=0)  # dx, dw, db


a, dy = rng.normal(size=(8, 5)), rng.normal(size=(8, 3))
w, b = rng.normal(size=(3, 5)), rng.normal(size=3)
da, dw, db = dense_backward(a, w, dy)
for gradient, array in [(da, a), (dw, w), (db, b)]:
    check(gradient, array, lambda: (dy * dense(a, w, b)).sum())

# %%
# tanh
# ----
#
# Its derivative can be written with its own value, which the forward pass has kept:
#
# .. math:: y = \tanh x
#
# .. math:: dx = dy \, (1 - y^2)
#
# The factor is 1 at most, and almost 0 where the output is near -1 or 1.


def tanh_backward(y, dy):
    return dy * (1 - y**2)


a, dy = rng.normal(size=(2, 4, 5))
da = tanh_backward(np.tanh(a), dy)
check(da, a, lambda: (dy * np.tanh(a)).sum())

inputs = np.linspace(-4, 4, 200)
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
outputs = np.tanh(inputs)
axis.plot(inputs, outputs, label="tanh x")
axis.plot(inputs, tanh_backward(outputs, 1), label="its derivative")
axis.axvspan(-4, -2, color="C7", alpha=0.2)
axis.axvspan(2, 4, color="C7", alpha=0.2, label="saturated")
axis.set(xlabel="x", xlim=(-4, 4))
axis.legend()
plt.show()

# %%
# An average of four
# ------------------
#
# Each pixel of a 2 x 2 window has a quarter of the mean, and gets a quarter of its
# gradient.


def avg_pool(x):
    rows = x[:, :, ::2] + x[:, :, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def avg_pool_backward(dy):
    return np.kron(dy, np.full((1, 1, 2, 2), 1 / 4))


a, dy = rng.normal(size=(2, 3, 4, 6)), rng.normal(size=(2, 3, 2, 3))
check(avg_pool_backward(dy), a, lambda: (dy * avg_pool(a)).sum())

# %%
# A convolution
# -------------
#
# Output i, j of map f in image n is a bias and a sum over the window at i, j:
#
# .. math:: y_{nfij} = b_f + \sum_{c,k,m} w_{fckm} \, x_{n,c,i+k,j+m}
#
# As in the dense layer: go through all products, and give each of the two factors dy
# times the other. For a weight, its products are added up,
#
# .. math:: dw_{fckm} = \sum_{n,i,j} dy_{nfij} \, x_{n,c,i+k,j+m}
#
# which is again a convolution, of the input with dy as its kernel. For a pixel, go
# through all places of the kernel and add to the pixel that was under it:
#
# .. math:: dx_{n,c,i+k,j+m} \leftarrow dx_{n,c,i+k,j+m} + dy_{nfij} \, w_{fckm}
#
# The bias has been added everywhere, so its gradient is the sum of all dy of its map.


def windows(x, size):
    """(N, C, H, W) -> (N, C, OH, OW, K, K), without a copy"""
    return sliding_window_view(x, (size, size), axis=(2, 3))


def conv(x, w, b):
    seen = windows(x, w.shape[2])
    y = np.einsum("ncijkm,fckm->nfij", seen, w, optimize=True)
    return y + b[:, None, None]


def conv_backward(x, w, dy):
    size, (rows, columns) = w.shape[2], dy.shape[2:]
    seen = windows(x, size)
    dw = np.einsum("nfij,ncijkm->fckm", dy, seen, optimize=True)
    dx = np.zeros_like(x)
    for k, m in np.ndindex(size, size):
        under = dx[:, :, k : k + rows, m : m + columns]
        under += np.einsum("nfij,fc->ncij", dy, w[:, :, k, m])
    return dx, dw, dy.sum(axis=(0, 2, 3))


a, dy = rng.normal(size=(2, 3, 8, 7)), rng.normal(size=(2, 4, 4, 3))
w, b = rng.normal(size=(4, 3, 5, 5)), rng.normal(size=4)
da, dw, db = conv_backward(a, w, dy)
for gradient, array in [(da, a), (dw, w), (db, b)]:
    check(gradient, array, lambda: (dy * conv(a, w, b)).sum())

# %%
# To see it, let dy be 1 at one place of one map, and 0 elsewhere. Then dw is the window
# that this output has seen, and dx is the kernel, laid where the window was.

i, j = 12, 15
kernel = weights["C1.weight"][:1]
dy = np.zeros((1, 1, 28, 28))
dy[0, 0, i, j] = 1
dx, dw, _ = conv_backward(x[:1], kernel, dy)

assert (dw[0, 0] == x[0, 0, i : i + 5, j : j + 5]).all()
assert (dx[0, 0, i : i + 5, j : j + 5] == kernel[0, 0]).all()

figure, axes = plt.subplots(2, 2, figsize=(5, 5.2), layout="constrained")
maps = [("x", x), ("dy", dy), ("dw", dw), ("dx", dx)]
for axis, (title, values) in zip(axes.flat, maps, strict=True):
    largest = abs(values).max()
    axis.imshow(values[0, 0], cmap="RdBu", vmin=-largest, vmax=largest)
    axis.set(title=title, xticks=[], yticks=[])
for axis in axes[0, 0], axes[1, 1]:
    square = plt.Rectangle((j - 0.5, i - 0.5), 5, 5, fill=False, lw=2)
    axis.add_patch(square)
plt.show()

# %%
# The whole network
# -----------------
#
# Forward, keeping what each layer makes. Backward, from the last line to the first.


def forward(weights, x):
    """(N, 1, 32, 32) -> all maps; the last are the logits (N, 10)"""

    def layer(name):
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    c1 = np.tanh(conv(x, *layer("C1")))  # 6@28x28
    s2 = avg_pool(c1)  # 6@14x14
    c3 = np.tanh(conv(s2, *layer("C3")))  # 16@10x10
    s4 = avg_pool(c3)  # 16@5x5
    c5 = np.tanh(conv(s4, *layer("C5")))  # 120@1x1
    f6 = np.tanh(dense(c5[:, :, 0, 0], *layer("F6")))
    return x, c1, s2, c3, s4, c5, f6, dense(f6, *layer("OUTPUT"))


def backward(weights, maps, labels):
    """The gradients by name"""
    gradients = {}

    def layer(name, function, x, dy):
        dx, dw, db = function(x, weights[f"{name}.weight"], dy)
        gradients[f"{name}.weight"], gradients[f"{name}.bias"] = dw, db
        return dx

    x, c1, s2, c3, s4, c5, f6, logits = maps
    dlogits = cross_entropy_backward(logits, labels)
    df6 = layer("OUTPUT", dense_backward, f6, dlogits)
    dz6 = tanh_backward(f6, df6)
    dc5 = layer("F6", dense_backward, c5[:, :, 0, 0], dz6)[:, :, None, None]
    ds4 = layer("C5", conv_backward, s4, tanh_backward(c5, dc5))
    dc3 = avg_pool_backward(ds4)
    ds2 = layer("C3", conv_backward, s2, tanh_backward(c3, dc3))
    dc1 = avg_pool_backward(ds2)
    layer("C1", conv_backward, x, tanh_backward(c1, dc1))
    return gradients


def loss():
    return cross_entropy(forward(weights, x)[-1], labels)


gradients = backward(weights, forward(weights, x), labels)
for name, values in weights.items():
    check(gradients[name], values, loss)

# %%
# Compared with the core
# ----------------------
#
# ``model.loss_and_gradients`` computes the same in float32, with 7 digits.

core_loss, core_gradients = model.loss_and_gradients(x, labels)

assert np.isclose(core_loss, loss(), rtol=1e-6)
for name, gradient in gradients.items():
    error = abs(core_gradients[name] - gradient).max()
    error /= abs(gradient).max()
    print(f"{name:14} {gradient.size:6} numbers, relative error {error:.0e}")
    assert error < 1e-5

# %%
# How small is a small change?
# ----------------------------
#
# The error of a difference shrinks with the square of h, until rounding takes over: the
# two losses then agree in nearly all digits, and only the others are left in their
# difference. In float64 the best h leaves eight digits or more, in float32 three or
# four. Therefore gradients are checked in float64.

steps = np.logspace(-10, 0, 31)
places = some_places(weights["C3.weight"], 10)
exact = np.array([gradients["C3.weight"][place] for place in places])


def errors(dtype):
    rounded = {name: w.astype(dtype) for name, w in weights.items()}
    pixels, array = x.astype(dtype), rounded["C3.weight"]

    def loss():
        return cross_entropy(forward(rounded, pixels)[-1], labels)

    for h in steps.astype(dtype):
        slopes = [slope(loss, array, place, h) for place in places]
        yield abs(slopes - exact).max() / abs(exact).max()


figure, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")
for dtype in (np.float32, np.float64):
    found = list(errors(dtype))
    axis.loglog(steps, found, label=dtype.__name__)
    assert (min(found) < 1e-7) == (dtype is np.float64)
axis.set(xlabel="h", ylabel="relative error of the difference")
axis.legend()
plt.show()

# %%
# A mistake that the check finds
# ------------------------------
#
# Some routines that are called convolution turn the kernel by 180 degrees. If one of
# them makes the forward pass, while the gradient is the one above, nothing breaks:
# shapes fit, and the loss may even fall, since the gradients of F6 and OUTPUT are
# right. A dot below is a weight of C5.


def loss_turned():
    return cross_entropy(forward(turned, x)[-1], labels)


turned = {  # views: what is changed in the weights is changed here
    name: w[..., ::-1, ::-1] if w.ndim == 4 else w for name, w in weights.items()
}
wrong = backward(weights, forward(turned, x), labels)
check(wrong["F6.weight"], weights["F6.weight"], loss_turned)

array = weights["C5.weight"]
places = some_places(array, 60)
cases = {
    "as it is": (gradients, loss),
    "kernel turned": (wrong, loss_turned),
}
correlation = {}

figure, axes = plt.subplots(
    1, 2, figsize=(5.6, 3.3), sharex=True, sharey=True, layout="constrained"
)
for axis, title in zip(axes, cases, strict=True):
    found, function = cases[title]
    formula = [found["C5.weight"][place] for place in places]
    measured = [slope(function, array, place) for place in places]
    correlation[title] = np.corrcoef(formula, measured)[0, 1]
    axis.axline((0, 0), slope=1, color="C7")
    axis.plot(measured, formula, ".")
    axis.set(title=title, xlabel="measured slope")
axes[0].set_ylabel("gradient by formula")
plt.show()

assert correlation["as it is"] > 0.9999
assert correlation["kernel turned"] < 0.6

# %%
# What the gradient is for
# ------------------------
#
# If all weights move against the gradient, the loss begins to fall by the sum of the
# gradient's squares, for a step of size 1. That is a tangent. Small steps keep to it,
# larger ones gain less than it promises, and even larger ones make the loss rise. How
# large a step may be is one of the questions of the next lesson.

steps = np.linspace(0, 10, 51)
squares = sum((gradient**2).sum() for gradient in gradients.values())


def loss_after(step):
    moved = {name: w - step * gradients[name] for name, w in weights.items()}
    return cross_entropy(forward(moved, x)[-1], labels)


assert np.isclose(loss() - loss_after(1e-4), 1e-4 * squares, rtol=1e-2)
assert loss_after(1) < loss() < loss_after(10)

figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
axis.plot(steps, [loss_after(step) for step in steps], label="loss")
axis.plot(steps, loss() - steps * squares, "--", label="tangent")
axis.set(xlabel="step against the gradient", ylabel="loss")
axis.set_ylim(1.7, 2.6)
axis.legend()
plt.show()

# %%
# What to try next
# ----------------
#
# - Break one line of a backward pass, as by leaving out the quarter of
#   ``avg_pool_backward``. How does ``check`` tell?
# - Put ReLU in the place of tanh. Where is ``check`` right to complain, though the
#   formula is correct?
# - Take the gradient of the *image*, the dx of C1, and show it: which pixels matter?
# - ``lenet5c.reference`` has all of this for other layers too, batch normalisation
#   among them. Derive that one.
# - The next lesson takes many steps: *Why training fails*.
