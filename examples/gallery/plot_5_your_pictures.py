"""
5. Your own pictures
====================

From a folder of pictures to a network that tells them apart, then to a page that
anyone can open, and to C code for a small device. The pictures are drawn signs here,
made on the fly; a folder of your own photographs of signs takes their place.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import lenet5c
from lenet5c.pictures import prepare

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

# %%
# A folder for each class
# -----------------------
# Signs of three kinds, as if they were drawn by hand on sheets of paper and
# photographed: of any size, anywhere on the sheet, with a thick or a thin pen, crooked,
# on paper that is darker on one side. Each kind has a folder, whose name is the class.

SHAPES = {  # corners, in a square from -1 to 1
    "circle": [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 13)],
    "cross": [(-1, -1), (1, 1), None, (-1, 1), (1, -1)],
    "triangle": [(-1, 0.8), (1, 0.8), (0, -1), (-1, 0.8)],
}


def draw(kind, rng):
    """A grey picture of 120 x 90 pixels."""
    light = rng.uniform(190, 220) + np.linspace(0, rng.uniform(-60, 60), 120)
    paper = np.clip(light + rng.normal(0, 4, (90, 120)), 0, 255)
    picture = Image.fromarray(paper.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    size, angle = rng.uniform(11, 30), rng.uniform(-0.4, 0.4)
    middle = rng.uniform((34, 34), (86, 56))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    width, ink = int(rng.uniform(2, 6)), int(rng.uniform(20, 90))
    stroke = []
    for corner in [*SHAPES[kind], None]:
        if corner is None:  # the pen is lifted
            pen.line(stroke, fill=ink, width=width, joint="curve")
            stroke = []
        else:
            shaky = np.array(corner) + rng.normal(0, 0.06, 2)
            stroke.append(tuple(middle + size * shaky @ turn))
    return picture.filter(ImageFilter.GaussianBlur(0.6))


rng = np.random.default_rng(0)
for kind in SHAPES:
    (folder / "photos" / kind).mkdir(parents=True)
    for number in range(100):
        draw(kind, rng).save(folder / "photos" / kind / f"{number:03}.png")

photos = sorted((folder / "photos").glob("*/*.png"))
print(len(photos), "pictures, among them", photos[0].relative_to(folder))

figure, axes = plt.subplots(3, 6, figsize=(6.2, 2.7), layout="constrained")
for row, kind in zip(axes, SHAPES, strict=True):
    row[0].set_ylabel(kind)
    for axis, path in zip(
        row, sorted((folder / "photos" / kind).iterdir()), strict=False
    ):
        axis.imshow(Image.open(path), cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
plt.show()

# %%
# What the network should see
# ---------------------------
# LeNet-5 takes images of 28 x 28 pixels, light on black. ``prepare`` makes them as
# MNIST's were made: it levels the light, finds the sign, crops it, brings its longer
# side to 20 pixels and puts its centre of mass in the middle. What is left to learn is
# the shape alone.

examples = [photos[n] for n in (0, 5, 100, 105, 200, 205)]
figure, axes = plt.subplots(2, 6, figsize=(6.2, 2.3), layout="constrained")
for (above, below), path in zip(axes.T, examples, strict=True):
    above.imshow(Image.open(path), cmap="gray", vmin=0, vmax=255)
    below.imshow(prepare(path), cmap="gray", vmin=0, vmax=255)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
plt.show()

# %%
# We keep the prepared images as a second folder of the same form.

for path in photos:
    target = folder / "prepared" / path.parent.name / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(prepare(path)).save(target)

# %%
# From the folder to a model
# --------------------------
# ``image_folder`` reads a folder of folders. Labels are the folders' names. A sixth of
# each class is held out to test with. (It keeps what it read in a cache, which has its
# place in the user's folder; here it goes with everything else.)

data = lenet5c.datasets.image_folder(
    folder / "prepared", cache=folder / "cache", progress=False
)
print(data.train.images.shape, data.train.labels[:3], len(data.test.labels))

model = lenet5c.lenet5(classes=len(SHAPES))
model.fit(*data.train)

evaluation = model.evaluate(*data.test)
print(f"{evaluation.accuracy:.1%} of {len(data.test.labels)} test images are right")
assert evaluation.accuracy > 0.95

# %%
# Was it worth while to prepare the pictures? The same network on the photographs as
# they are, only made smaller:

raw = lenet5c.datasets.image_folder(
    folder / "photos", cache=folder / "cache", progress=False
)
other = lenet5c.lenet5(classes=len(SHAPES))
other.fit(*raw.train)
raw_accuracy = other.evaluate(*raw.test).accuracy
print(f"without preparation {raw_accuracy:.1%}")
assert raw_accuracy < evaluation.accuracy - 0.1

# %%
# It would learn that in the end, with more pictures and more epochs: the same sign at
# every place, in every size, on every paper. What preparation does need not be learned.
#
# A new picture
# -------------
# The network has never seen it. ``predict`` takes many images at a time, so one image
# is put into a batch of one.

path = folder / "new.png"
draw("triangle", rng).save(path)

image = prepare(path)
print(model.predict(image[np.newaxis]))
assert model.predict(image[np.newaxis])[0] == "triangle"

# %%
# What does it say to a sign of another kind?

SHAPES["square"] = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
squares = np.stack([prepare(draw("square", rng)) for _ in range(5)])
probabilities = model.predict_proba(squares)

figure, axes = plt.subplots(1, 5, figsize=(6.2, 1.8), layout="constrained")
for axis, image, row in zip(axes, squares, probabilities, strict=True):
    axis.imshow(image, cmap="gray")
    axis.set_title(f"{model.classes[row.argmax()]} {row.max():.0%}")
    axis.set(xticks=[], yticks=[])
plt.show()

# %%
# It has to choose among the three classes, and often sounds sure. The probabilities
# add up to 1 whatever the picture shows. A network does not know what it has not
# seen: if other signs can occur, give it a class for them, with pictures of many kinds.
#
# A page for everyone
# -------------------
# One file that opens in any browser, without a server and without a network. Draw a
# sign in it, and see what each layer makes of it. Send it to a friend.

page = folder / "signs.html"
model.export_page(page)
print(f"{page.name}: {page.stat().st_size / 1000:.0f} kB")

# %%
# C for a small device
# --------------------
# The network as one C file, with the weights in it. It needs no library and no
# operating system.

model.export_c(folder / "signs.h", name="signs")

# %%
# A program around it: read images from the standard input, 784 bytes each, and print
# the name of the class.

PROGRAM = """
#include <stdio.h>

#define SIGNS_IMPLEMENTATION
#include "signs.h"

static uint8_t image[SIGNS_CHANNELS * SIGNS_ROWS * SIGNS_COLUMNS];
static signs_workspace workspace;

int main(void)
{
    while (fread(image, sizeof image, 1, stdin) == 1)
        puts(signs_class_names[signs_predict(image, &workspace, NULL)]);
    return 0;
}
"""

# %%
# Compile it, and give it all test images. It says the same as the model in Python.

(folder / "classify.c").write_text(PROGRAM)
if shutil.which("cc"):
    subprocess.run(
        ["cc", "-O2", "classify.c", "-o", "classify"], cwd=folder, check=True
    )
    answer = subprocess.run(
        [folder / "classify"],
        input=data.test.images.tobytes(),
        capture_output=True,
        check=True,
    )
    said = answer.stdout.decode().split()
    print(len(said), "images, the first is a", said[0])
    assert said == model.predict(data.test.images).tolist()
else:
    print("no C compiler here: the program was not tried")

# %%
# The temporary folder and all that is in it goes away.

temporary.cleanup()

# %%
# What to try next
# ----------------
# - Photograph signs of your own, 50 of each kind, put them into folders, and name the
#   folder instead of ``photos``. The command line does the same:
#   ``lenet5c train --data FOLDER``.
# - Train on the unprepared photographs for 100 epochs, with and without
#   ``augment=lenet5c.Augment()``. How far do you get?
# - Add a class "other" of scribbles, and show it the squares again.
# - How few pictures are enough?
# - How small can the model be? The next lesson makes it four times smaller.
