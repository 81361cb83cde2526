"""
3. Why training fails
=====================

The code is right, the gradient has been checked, and yet nothing is learned, or the
loss is suddenly nan. Here training is made to fail in the usual ways, one at a time.
For each there is a picture by which it is recognised, the reason, and the cure.

You need the two lessons before: what a layer computes, and what a gradient is.
"""

# %%
# Digits, standardised
# --------------------
#
# Mean 0 and deviation 1, over all training images. Test images are treated with the
# figures of the training images.

import textwrap
import warnings

import matplotlib.pyplot as plt
import numpy as np

import lenet5c
from lenet5c.layers import BatchNorm2d, Dense, Flatten, ReLU, Sigmoid, Tanh

data = lenet5c.datasets.digits()


def pad(images):
    return np.pad(images, ((0, 0), (2, 2), (2, 2)))  # (N, 32, 32)


mean, deviation = pad(data.train.images).mean(), pad(data.train.images).std()


def standardise(images):
    return ((pad(images) - mean) / deviation).astype(np.float32)


images, labels = standardise(data.train.images), data.train.labels

warnings.simplefilter("ignore", UserWarning)  # of fit: nothing was learned

# %%
# A chain of ten layers
# ---------------------
#
# What goes wrong grows with the number of layers. This network has ten dense layers of
# 64 units and an activation. Its weights are drawn from a normal distribution with mean
# 0 and deviation s, for which there are three choices. One depends on I, the inputs of
# a layer.


def draw(model, deviation):
    """New weights; the deviation is a function of I"""
    rng = np.random.default_rng(0)
    for name, values in model.parameters.items():
        if name.endswith("weight") and values.ndim > 1:
            inputs = values[0].size
            values[...] = deviation(inputs) * rng.normal(size=values.shape)
    return model


def chain(deviation, activation=Tanh, normalised=False):
    layers = [Flatten()]
    for number in range(1, 11):
        layers.append(Dense(64, name=f"D{number}"))
        if normalised:
            layers.append(BatchNorm2d())
        layers.append(activation())
    layers.append(Dense(10, name="OUTPUT"))
    model = lenet5c.Model(layers, input_shape=(1, 32, 32), classes=10)
    return draw(model, deviation)


def small(inputs):
    return 0.01


def good(inputs):
    return 1 / np.sqrt(inputs)


def large(inputs):
    return 1


deviations = {"s = 0.01": small, "s = 1/√I": good, "s = 1": large}

# %%
# Most figures here are curves of ten points: ten layers, or ten epochs.


def show(curves, xlabel, ylabel, **options):
    _, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, values in curves.items():
        axis.plot(np.arange(1, 11), values, ".-", label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, xticks=range(1, 11), **options)
    axis.legend()
    plt.show()


# %%
# Forward: signals fade, or saturate
# ----------------------------------
#
# A unit adds up I products of weights and inputs. If the weights are independent, with
# mean 0 and deviation s, the mean squares of the products add up:
#
# .. math:: y = \sum_{i=1}^{I} w_i x_i
#
# .. math:: \overline{y^2} = I \, s^2 \, \overline{x^2}
#
# So a layer multiplies the size of a signal by s times the square root of I. With 64
# inputs this is 0.08 for s = 0.01, and 8 for s = 1. If s is one over the square root of
# I, it is 1. Ten layers do it ten times.


def sizes(model):
    """Deviation of the outputs of each layer"""
    some = images[:256]
    return [model.activations(some, f"D{n}").std() for n in range(1, 11)]


curves = {name: sizes(chain(s)) for name, s in deviations.items()}
show(curves, "layer", "deviation of its outputs", yscale="log")

assert curves["s = 0.01"][-1] < 1e-8
assert curves["s = 1/√I"][-1] > 0.1

# %%
# tanh keeps large signals between -1 and 1. The price is seen in a histogram of
# outputs: with large weights nearly all are at the two ends, where tanh is flat.

figure, axes = plt.subplots(3, 3, figsize=(5.6, 4.8), layout="constrained")
for row, (name, s) in zip(axes, deviations.items(), strict=True):
    model = chain(s)
    row[0].set_ylabel(name)
    for axis, number in zip(row, (1, 5, 10), strict=True):
        outputs = model.activations(images[:256], f"D{number}")
        axis.hist(outputs.ravel(), bins=41, range=(-1, 1))
        axis.set(title=f"layer {number}", yticks=[])
plt.show()

assert (abs(outputs) > 0.9).mean() > 0.75  # s = 1, layer 10

# %%
# Backward: gradients vanish, or explode
# --------------------------------------
#
# On the way back a gradient is multiplied by the same weights, layer after layer, and
# by the slopes of the activations. What happened to the signals happens to it.


def lengths(model):
    """Length of the gradient of each layer's weights"""
    _, gradients = model.loss_and_gradients(images[:256], labels[:256])
    names = [f"D{number}.weight" for number in range(1, 11)]
    return [np.linalg.norm(gradients[name]) for name in names]


curves = {name: lengths(chain(s)) for name, s in deviations.items()}
show(curves, "layer", "length of its gradient", yscale="log")

assert max(curves["s = 0.01"]) < 1e-8
assert 0.1 < min(curves["s = 1/√I"]) < max(curves["s = 1/√I"]) < 10
assert curves["s = 1"][0] > 100 * curves["s = 1"][-1]

# %%
# With weights of 1 the gradient of the first layer is hundreds of times as long as that
# of the last. No learning rate suits both.
#
# With weights of 0.01 no layer has a gradient to speak of, and all have the same. That
# of a weight is a product: what comes to it from the loss, times the signal that it
# multiplies. Near the loss the signal has faded, near the image what comes back.

# %%
# Trained
# -------
#
# The first remains at log(10) = 2.30, the loss of a network that gives each of ten
# classes the same probability: no gradient, no learning. The third jumps about so
# wildly that it ends there as well.


def losses(model, rate=0.05, **options):
    """Loss of each of ten epochs of plain gradient descent"""
    plain = {"schedule": "constant", "clip_norm": np.inf} | options
    optimizer = lenet5c.SGD(rate, momentum=0)
    history = model.fit(
        images, labels, epochs=10, batch_size=32, optimizer=optimizer, **plain
    )
    return history.loss


curves = {name: losses(chain(s)) for name, s in deviations.items()}
show(curves, "epoch", "loss")

assert np.allclose(curves["s = 0.01"], np.log(10), atol=0.01)
assert curves["s = 1/√I"][-1] < 0.2
assert curves["s = 1"][-1] > 2

# %%
# The activation counts, too
# --------------------------
#
# The slope of tanh is 1 in its middle. That of the sigmoid is 1/4 there, and less
# elsewhere. Each layer of it divides the gradient by four or more, and ten leave next
# to nothing for the first. This is the vanishing gradient for which deep networks were
# long held to be untrainable.

activations = {"sigmoid": Sigmoid, "tanh": Tanh}
curves = {
    name: lengths(chain(good, activation)) for name, activation in activations.items()
}
show(curves, "layer", "length of its gradient", yscale="log")

assert curves["sigmoid"][0] < 1e-4 * curves["sigmoid"][-1]
assert np.allclose(losses(chain(good, Sigmoid)), np.log(10), atol=0.1)

# %%
# ReLU needs twice the variance
# -----------------------------
#
# ReLU has slope 1 for positive inputs, and sets the others to zero. Half of the mean
# square is lost with them in each layer. He's initialisation makes up for that, by s =
# √(2/I). Glorot's, the root of 2 over inputs and outputs together, is for activations
# like tanh, which set nothing to zero. For layers of equal size it is the 1/√I from
# above.


def he(inputs):
    return np.sqrt(2 / inputs)


relu = {"s = 1/√I": good, "s = √(2/I)": he}
curves = {name: sizes(chain(s, ReLU)) for name, s in relu.items()}
options = {"yscale": "log", "ylim": (0.01, 2)}
show(curves, "layer", "deviation of its outputs", **options)

lost, kept = curves.values()
assert lost[-1] < 0.1 * lost[0]
assert kept[-1] > 0.4 * kept[0]

# %%
# Nothing holds ReLU's large values back. With weights of deviation 1 the first loss is
# above a million, and the step that follows is so long that the next loss is not a
# number.

model = chain(large, ReLU)
loss, _ = model.loss_and_gradients(images[:32], labels[:32])
print(f"a loss of {loss:.0e}, and then:")
assert loss > 1e6

try:
    losses(model)
except lenet5c.TrainingError as error:
    print(textwrap.fill(str(error)))
else:
    raise AssertionError("expected the training to fail")

# %%
# A cure for deep networks: normalise on the way
# ----------------------------------------------
#
# Batch normalisation gives each unit mean 0 and deviation 1 over the images of a batch,
# between the sum and its activation. Thereby the size of the weights drops out, and the
# two bad starts learn as well, if not as fast as the good one.

curves = {
    name: losses(chain(s, normalised=True), 0.02) for name, s in deviations.items()
}
show(curves, "epoch", "loss", ylim=(0, None))

assert max(curve[-1] for curve in curves.values()) < 1

# %%
# LeNet-5 forgives
# ----------------
#
# The usual article that writes LeNet-5 in NumPy draws all weights with a deviation of
# 0.1, and advises He's initialisation, which is for ReLU, in a network of tanh. By the
# formula above, 0.1 halves signals where there are 25 inputs, and doubles them where
# there are 400.

for inputs in (25, 150, 400, 120, 84):  # C1, C3, C5, F6, OUTPUT
    print(f"{inputs:3} inputs: times {0.1 * np.sqrt(inputs):.1f}")

# %%
# Yet they all learn. Five layers are few, and the two errors cancel. That is how such
# things go unnoticed until somebody makes the network deeper.

starts = {"s = 0.1": lambda inputs: 0.1, "s = √(2/I)": he, "s = 1/√I": good}
curves = {name: losses(draw(lenet5c.lenet5(), s)) for name, s in starts.items()}
show(curves, "epoch", "loss", ylim=(0, None))

assert max(curve[-1] for curve in curves.values()) < 0.3

# %%
# The learning rate
# -----------------
#
# Too low, and ten epochs are not enough. Too high, and a step ends far from where its
# gradient was valid: the loss rises above that of guessing and stays there. Here a
# factor of ten lies between a good rate and failure. So rates are tried in steps of 3
# or 10, from below.

rates = [0.001, 0.01, 0.1, 1]
new = lenet5c.lenet5
curves = {f"rate {rate}": losses(new(), rate) for rate in rates}
guessing = {"guessing": np.full(10, np.log(10))}
options = {"yscale": "log", "ylim": (3e-4, 100)}
show(curves | guessing, "epoch", "loss", **options)

assert curves["rate 0.001"][-1] > 1.5
assert curves["rate 0.1"][-1] < 0.15 < curves["rate 0.01"][-1]
assert min(curves["rate 1"]) > 18.4

# %%
# The red curve is above 18.4. A loss of -log(p + 1e-8) could not show that, as the
# lesson before has found: it would look as if it had come to rest.

# %%
# A cure for high rates: shorten what is too long
# -----------------------------------------------
#
# The rate of 1 fails in its first steps, where gradients are long. If those longer than
# 1 are scaled down to 1, the same rate is a good one. A rate that begins low, rises,
# and ends near zero, ``schedule="one-cycle"``, avoids the first steps as well. ``fit``
# does both unless told otherwise.

clip = {"clip_norm": 1}
curves = {
    "rate 1": curves["rate 1"],
    "gradients clipped": losses(new(), 1, **clip),
    "and one cycle": losses(new(), 1, **clip, schedule="one-cycle"),
}
show(curves, "epoch", "loss", yscale="log")

assert curves["gradients clipped"][-1] < 0.1
assert curves["and one cycle"][-1] < 0.1

# %%
# The order of the images
# -----------------------
#
# A loop that takes images as they lie meets all zeros first if they are sorted, then
# all ones. The loss of a batch is near 0 most of the time, since "it is always a 7" is
# right for a while. What is learned is the last class.


def train(order, epochs=3):
    model = lenet5c.lenet5()
    optimizer = lenet5c.SGD(0.05, momentum=0)
    losses = []
    for _ in range(epochs):
        for start in range(0, len(order), 32):
            i = order[start : start + 32]
            loss = model.train_step(images[i], labels[i], optimizer)
            losses.append(loss)
    test = standardise(data.test.images), data.test.labels
    return losses, model.evaluate(*test).accuracy


rng = np.random.default_rng(0)
found, accuracy = train(np.argsort(labels, kind="stable"))
shuffled, accuracy_shuffled = train(rng.permutation(len(labels)))

figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
axis.plot(found, label=f"sorted: {accuracy:.0%} of test images right")
axis.plot(shuffled, label=f"shuffled: {accuracy_shuffled:.0%}")
axis.set(xlabel="step", ylabel="loss of the batch")
axis.legend()
plt.show()

assert np.median(found) < 0.5
assert accuracy < 0.5 < 0.8 < accuracy_shuffled

# %%
# ``fit`` draws an order for each epoch.

# %%
# What the network is shown
# -------------------------
#
# To standardise images and then clip them to [0, 1] undoes half of the work. What is
# darker than the mean becomes 0, what is brighter by more than a deviation becomes 1,
# and the mean is no longer 0. Digits are nearly black and white, and survive it. Look
# at a histogram of what goes into your network.

clipped = np.clip(images, 0, 1)

figure, axes = plt.subplots(2, 1, figsize=(5, 3.8), sharex=True, layout="constrained")
cases = [("standardised", images), ("and clipped", clipped)]
for axis, (title, pixels) in zip(axes, cases, strict=True):
    axis.hist(pixels.ravel(), bins=np.linspace(-1, 3, 81), log=True)
    axis.set(title=f"{title}: {np.unique(pixels).size} grey levels")
    axis.set(ylabel="pixels")
plt.show()

assert abs(images.mean()) < 0.001 < 0.1 < clipped.mean()
assert np.unique(clipped).size < np.unique(images).size / 3

# %%
# What is written down
# --------------------
#
# A loop that adds up the losses of its batches and divides by ``m // batch_size``
# divides by 31 if there are 1,000 images in batches of 32, and so in 32 batches. Each
# point of its curve is 3 % too high. Besides, the last batch has 8 images and counts as
# much as the others. The mean over images weighs each batch by its size, and divides by
# m.

m, batch_size = 1000, 32
starts = range(0, m, batch_size)
batches = [min(batch_size, m - start) for start in starts]

assert m // batch_size == 31
assert len(batches) == 32
assert batches[-1] == 8

# %%
# All cures together
# ------------------
#
# Glorot's weights, standardised images, a new order for each epoch, momentum, one cycle
# of the rate, clipped gradients: these are the defaults of this package.

model = lenet5c.lenet5()
history = model.fit(*data.train, epochs=10)
accuracy = model.evaluate(*data.test).accuracy

print(f"loss {history.loss[-1]:.3f}, {accuracy:.1%} of test images right")
assert accuracy > 0.95

# %%
# What you see, and where to look
# -------------------------------
#
# - The loss stays at log(classes): no gradient arrives. Draw its length by layer.
# - The loss is huge from the beginning, or nan: the weights are too large.
# - The loss falls, then jumps up and stays there: the rate is too high.
# - The loss falls slowly all the time: the rate is too low.
# - The losses of batches are low and the accuracy is, too: look at the order of the
#   images.

# %%
# What to try next
# ----------------
#
# - Give LeNet-5 weights of 0.01 and of 1. Which layers' gradients vanish or explode?
# - Put a ``lenet5c.layers.Residual`` around pairs of layers of the chain, and draw the
#   lengths of the gradients again.
# - Clip the gradients of the chain with weights of 1. Does that help, and why not?
# - An accuracy of 90 %, measured on 100 images, has a deviation of 3 points. How many
#   images does it take to tell 98 % from 99 %?
# - Look at what a network has learned that was trained well: *What the network sees*.
