"""
4. What the network sees
========================

A trained LeNet-5 is 61,706 numbers, and nobody can read them. But we can ask it
questions: what does a filter look for, what becomes of an image on its way,
which part of the image decides, and which images look alike to it? Each question below
takes a few lines.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

import lenet5c
from lenet5c import plots

# sphinx_gallery_thumbnail_number = 5

data = lenet5c.datasets.digits()
images, labels = data.test

# %%
# The network is LeNet-5. In each epoch it sees each training image somewhere else, up
# to three pixels from the middle: that will matter at the end.

model = lenet5c.lenet5()
model.fit(*data.train, augment=lenet5c.Augment(shift=3, rotate=0, scale=0))

accuracy = model.evaluate(images, labels).accuracy
print(f"{accuracy:.1%} of {len(images)} test images are right")
assert accuracy > 0.98

# %%
# What a filter looks for
# -----------------------
# The first layer, C1, has six filters. Each is a window of 5 x 5 weights that slides
# over the image. Where the image is bright under the purple weights and dark under the
# orange ones, the sum of the products is large.

plots.plot_filters(model)

# %%
# Weights alone say little. More is seen in the pieces of images to which a filter
# answers most. We slide C1's filters over all test images, and find the seven largest
# sums of each filter, one from an image.
#
# The sum at row ``i`` and column ``j`` comes from the window of the input that begins
# at ``i, j``. The input has 32 x 32 pixels, two more on each side than the image, and
# is scaled to mean 0 and deviation 1, as the model does it.

inputs = np.pad(images, ((0, 0), (2, 2), (2, 2)))  # (N, 32, 32)
scaled = (inputs / 255 - model.stage.mean) / model.stage.deviation

weight = model.parameters["C1.weight"]  # (6, 1, 5, 5)
bias = model.parameters["C1.bias"]  # (6,)
sums = lenet5c.functional.conv2d(scaled[:, np.newaxis], weight, bias)  # (N, 6, 28, 28)

figure, axes = plt.subplots(6, 8, figsize=(6.2, 4.8), layout="constrained")
likeness = []
limit = abs(weight).max()
for f, row in enumerate(axes):
    row[0].imshow(weight[f, 0], cmap="PuOr", vmin=-limit, vmax=limit)
    row[0].set_ylabel(f"filter {f + 1}", rotation=0, ha="right", va="center")
    best = sums[:, f].max(axis=(1, 2)).argsort()[::-1][:7]
    pieces = []
    for n in best:
        i, j = np.unravel_index(sums[n, f].argmax(), (28, 28))
        pieces.append(inputs[n, i : i + 5, j : j + 5])
    for cell, piece in zip(row[1:], pieces, strict=True):
        cell.imshow(piece, cmap="gray", vmin=0, vmax=255)
    mean = np.mean(pieces, axis=0)
    likeness.append(np.corrcoef(weight[f, 0].ravel(), mean.ravel())[0, 1])
for cell in axes.flat:
    cell.set(xticks=[], yticks=[])
figure.suptitle("Each filter of C1, and the pieces that it answers most to")
plt.show()

print("correlation of filter and pieces:", np.round(likeness, 2))
assert np.mean(likeness) > 0.4

# %%
# The pieces resemble the filter: it is a template. Nearly all are edges of strokes in
# one direction or another. A filter whose weights are mostly positive answers to the
# inside of a stroke.
#
# What becomes of an image
# ------------------------
# All maps of one image, layer by layer. S2 and S4 are means of 2 x 2 values, so they
# are smaller and softer. C3 combines all six maps of S2.

plots.plot_feature_maps(model, images[0])

# %%
# There is no secret in these maps. Here is one value of C1 by hand: the window times
# the weights, the sum of these products, the bias, and the tanh of that.

i, j = 12, 10
window = scaled[0, i : i + 5, j : j + 5]
by_hand = np.tanh((window * weight[0, 0]).sum() + bias[0])

in_the_map = model.activations(images[:1], "C1")[0, 0, i, j]
print(f"by hand {by_hand:.5f}, in the map {in_the_map:.5f}")
assert abs(by_hand - in_the_map) < 1e-4

# %%
# How far a value sees
# --------------------
# A value of C1 sees 5 x 5 pixels. One of S2 sees four values of C1, so 6 x 6 pixels.
# Deeper values see more. We need no formula for that: change one pixel after the other,
# and note which of them change the value in the middle of the map.

image = images[0]
changed = np.repeat(image[np.newaxis], 28 * 28, axis=0)
changed.reshape(28 * 28, 28 * 28)[np.diag_indices(28 * 28)] ^= 128

seen_by = {}
figure, axes = plt.subplots(1, 4, figsize=(6.2, 1.9), layout="constrained")
for axis, layer in zip(axes, ["C1", "S2", "C3", "S4"], strict=True):
    before = model.activations(image[np.newaxis], layer)
    after = model.activations(changed, layer)
    middle = before.shape[2] // 2
    difference = abs(after - before)[:, :, middle, middle].max(axis=1)
    seen = (difference > 1e-4).reshape(28, 28)
    seen_by[layer] = int(seen.any(axis=1).sum())
    axis.imshow(image, cmap="gray")
    axis.imshow(np.where(seen, 1.0, np.nan), cmap="autumn", alpha=0.5)
    axis.set_title(f"{layer}: {seen_by[layer]} rows")
    axis.set(xticks=[], yticks=[])
plt.show()

assert seen_by == {"C1": 5, "S2": 6, "C3": 14, "S4": 16}

# %%
# What a value sees is called its *receptive field*. C5, the next layer, sees 32 x 32
# pixels, all of the input.
#
# Which part of the image decides
# -------------------------------
# *Occlusion* is the simplest way to find out: cover a part of the image, and look at
# the probability of the right class. We cover each place with a black square of 7 x 7
# pixels, and predict all of these images in one call.


def occluded(image, side=7):
    """One image for each place of a black square: (28 * 28, 28, 28)."""
    covered = np.repeat(image[np.newaxis], 28 * 28, axis=0)
    for place, one in enumerate(covered):
        i, j = divmod(place, 28)
        top, left = max(0, i - side // 2), max(0, j - side // 2)
        one[top : i + side // 2 + 1, left : j + side // 2 + 1] = 0
    return covered


chosen = [np.flatnonzero(labels == digit)[0] for digit in (3, 4, 6, 8, 9)]
figure, axes = plt.subplots(2, 5, figsize=(6.2, 3.1), layout="constrained")
mistaken = 0
for n, (above, below) in zip(chosen, axes.T, strict=True):
    covered = occluded(images[n])
    probabilities = model.predict_proba(covered)
    right = probabilities[:, labels[n]]
    worst = right.argmin()
    mistaken += probabilities[worst].argmax() != labels[n]
    unchanged = (covered == images[n]).all(axis=(1, 2))
    assert np.ptp(right[unchanged]) < 1e-5  # black on black changes nothing
    above.imshow(images[n], cmap="gray")
    above.imshow(1 - right.reshape(28, 28), cmap="inferno", vmin=0, vmax=1, alpha=0.6)
    above.set_title(f"a {labels[n]}")
    below.imshow(covered[worst], cmap="gray")
    below.set_title(f"taken for {probabilities[worst].argmax()}")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
plt.show()

assert mistaken >= 3

# %%
# Above, a place is the brighter the more probability a square around it takes away from
# the right class. Below is the worst square, and what the network makes of the rest:
# for most of these digits one piece is enough to become another digit, and often
# we would read it so too.
#
# Which images look alike to it
# -----------------------------
# F6, the last layer but one, turns each image into 84 numbers, its *features*. The
# classes are told apart by weighted sums of these alone. So images that mean the same
# should have similar features.
#
# We look for the nearest training images of some test images, once among the 784
# pixels and once among the 84 features. Before that we move the test images three
# pixels to the right.


def pixels(images):
    """Each image as one row of numbers, (N, 784)."""
    return images.reshape(len(images), -1)


def features(images, layer="F6"):
    """What a layer makes of the images, (N, values)."""
    return model.activations(images, layer).reshape(len(images), -1)


train_images, train_labels = data.train
moved = np.roll(images, 3, axis=2)

by_pixels = NearestNeighbors(n_neighbors=5).fit(pixels(train_images))
by_features = NearestNeighbors(n_neighbors=5).fit(features(train_images))

figure = plt.figure(figsize=(6.2, 3.2), layout="constrained")
figures = figure.subfigures(1, 2)
for part, name, search, turn in [
    (figures[0], "nearest in pixels", by_pixels, pixels),
    (figures[1], "nearest in F6", by_features, features),
]:
    neighbours = search.kneighbors(turn(moved[chosen]), return_distance=False)
    axes = part.subplots(5, 6)
    part.suptitle(f"five {name}")
    for row, n, found in zip(axes, chosen, neighbours, strict=True):
        row[0].imshow(moved[n], cmap="gray_r")
        for cell, at in zip(row[1:], found, strict=True):
            wrong = train_labels[at] != labels[n]
            cell.imshow(train_images[at], cmap="Reds" if wrong else "gray")
        for cell in row:
            cell.set(xticks=[], yticks=[])
plt.show()

# %%
# The moved image stands in front of each row; neighbours of another class are red.
# Pixels compare what is at the same place, and so find digits that happen to cover
# that place. F6 finds the same digit elsewhere.
#
# The same in figures: let the five nearest neighbours of each test image vote.

scores = {}
for name, turn in [("pixels", pixels), ("F6", features)]:
    voters = KNeighborsClassifier(5).fit(turn(train_images), train_labels)
    for where, tested in [("where they were", images), ("moved", moved)]:
        scores[name, where] = voters.score(turn(tested), labels)
        print(f"{name:6} {where:15} {scores[name, where]:.1%} right")

assert scores["pixels", "where they were"] > 0.97
assert scores["pixels", "moved"] < 0.65
assert scores["F6", "moved"] > 0.9

# %%
# As long as nothing moves, pixels are as good as the network on these neat digits. What
# the network has learned in addition is what we showed it: a digit stays the same
# digit when it moves.
#
# From the image to the class
# ---------------------------
# 84 numbers, and even more so 784, cannot be drawn. *Principal component analysis*
# (PCA) finds the plane on which the points are spread out most, and shows their shadow
# on it.

figure, axes = plt.subplots(2, 2, figsize=(5.6, 6), layout="constrained")
separation = {}
for axis, layer in zip(axes.flat, ["input", "S4", "C5", "F6"], strict=True):
    points = pixels(images) if layer == "input" else features(images, layer)
    plane = PCA(2).fit_transform(points)
    dots = axis.scatter(*plane.T, c=labels, cmap="tab10", s=6)
    separation[layer] = silhouette_score(points.astype(float), labels)
    axis.set_title(f"{layer}: {separation[layer]:.2f}")
    axis.set(xticks=[], yticks=[])
figure.legend(*dots.legend_elements(), loc="outside lower center", ncols=5)
plt.show()

assert separation["input"] < separation["S4"] < separation["C5"] < separation["F6"]

# %%
# The number is the *silhouette* of the points, in all their dimensions: 1 if each
# class is one tight heap far from the others, 0 if heaps overlap. It grows from layer
# to layer: the network pulls the classes apart, step by step.
#
# A shadow hides much. *t-SNE* draws no shadow but a map: points that are neighbours
# shall be neighbours on the map as well. Distances between heaps and their sizes
# mean nothing on it.

tsne = TSNE(init="pca", method="exact", random_state=0)  # exact is quick for so few
plane = tsne.fit_transform(features(images))
wrong = model.predict(images) != labels

figure, axis = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
dots = axis.scatter(*plane.T, c=labels, cmap="tab10", s=12)
axis.scatter(*plane[wrong].T, s=120, facecolors="none", edgecolors="black")
axis.legend(*dots.legend_elements(), loc="center left", bbox_to_anchor=(1, 0.5))
axis.set_title("F6 by t-SNE, mistakes in circles")
axis.set(xticks=[], yticks=[])
plt.show()

# %%
# What to try next
# ----------------
# - Train without ``augment`` and look at the neighbours again.
# - Cover the images with a grey square instead of a black one. Why do the results
#   differ?
# - Which pieces of images do the filters of C3 answer most to? They see 14 x 14
#   pixels.
# - Draw digits yourself, and look where they are on the map: the next lesson makes
#   images of your own pictures.
