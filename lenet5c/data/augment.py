"""Augment: images changed at random while they are trained on, each epoch anew."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, number, whole
from lenet5c._support.cores import core
from lenet5c._support.habits import explained
from lenet5c.data.images import InputStage, as_images
from lenet5c.display import Displayed, Table, strip

__all__ = ["Augment"]

SIGMA = 4.0  # pixels, of elastic distortion
MAX_SIGMA = 20.0
SAMPLES = 12  # shown in a notebook
FOUR = [(11, 4, 6, 16), (6, 16, 21, 16), (17, 10, 17, 24)]  # strokes: x, y, to x, y


@explained
@dataclass(frozen=True)
class Augment(Displayed):
    """How images are changed while they are trained on.

    Notebooks show (with Pillow) what becomes of a 4.

    Each image is changed anew in each epoch, in the compiled core, on its way into the
    network: one affine map about its centre with bilinear interpolation, then what
    else is asked for. The map turns the image, shears it, scales and squeezes it along
    rows and columns, and shifts it, in this order. All numbers are drawn uniformly,
    from a key made of the seed, the epoch and the image's position: never of threads
    or time.

    Parameters
    ----------
    shift : float
        Most pixels to the left or right, and up or down.
    rotate : float
        Most degrees, either way.
    scale : float
        Most change of size: 0.12 is 0.88 to 1.12 times as large.
    shear : float
        Most degrees, either way, along the rows.
    elastic : float, (float, float) or None
        Elastic distortion (Simard, Steinkraus and Platt 2003): each pixel is displaced
        by uniform noise in [-1, 1], smoothed by a Gaussian of deviation sigma pixels,
        times alpha. A number is alpha, with sigma 4; the paper has (34, 4). At most
        sigma 20.
    noise : float
        Standard deviation of Gaussian noise on every pixel: as a share of 255 for uint8
        images, 0.1 is 25.5; in the units of the pixels for floating ones.
    erase : float
        Probability that a rectangle of 2 to 20 % of the input, of an aspect from 1:3 to
        3:1, is wiped out (random erasing: Zhong et al. 2020).
    squeeze : float
        Most change of the width that the height undoes: the image becomes s times as
        wide and 1 / s times as high, with s from 1 - squeeze to 1 + squeeze.
    probability : float
        Of being changed at all, for each image in each epoch. The others are shown as
        they are.

    Examples
    --------
    >>> augment = lenet5c.Augment(shift=1, rotate=5)
    >>> augment
    Augment(shift=1, rotate=5, scale=0.12, shear=0, elastic=None, noise=0, erase=0,
            squeeze=0, probability=1)
    >>> history = lenet5c.lenet5().fit(images, labels, augment=augment, epochs=1)
    """

    shift: float = 2
    rotate: float = 12
    scale: float = 0.12
    shear: float = 0
    elastic: float | tuple[float, float] | None = None
    noise: float = 0
    erase: float = 0
    squeeze: float = 0
    probability: float = 1

    def __post_init__(self) -> None:
        number("shift", self.shift, 0, 1024)
        number("rotate", self.rotate, 0, 360)
        number("scale", self.scale, 0, 1)
        number("shear", self.shear, 0, 90)
        number("squeeze", self.squeeze, 0, 1)
        alpha, sigma = self._elastic()
        number("elastic", alpha, 0, 1e6)
        if not 0.1 <= number("elastic: sigma", sigma, 0, math.inf) <= MAX_SIGMA:
            raise ValueError(
                f"elastic: expected a sigma from 0.1 to {MAX_SIGMA:g}, got {sigma!r}"
            )
        number("noise", self.noise, 0, 1e6)
        for name in ("erase", "probability"):
            if number(name, value := getattr(self, name), 0, math.inf) > 1:
                raise ValueError(f"{name}: expected 0 <= x <= 1, got {value!r}")

    @classmethod
    def lenet5_1998(cls) -> "Augment":
        """The distortions of LeNet-5's paper: nine images of ten are moved, scaled,
        squeezed and sheared.

        LeCun, Bottou, Bengio and Haffner 1998, section III: to 60,000 patterns come
        540,000, each a combination of horizontal and vertical translation, scaling,
        squeezing and horizontal shearing with parameters drawn at random. Here they are
        drawn anew in each epoch. The paper does not say by how much: the amounts are
        this library's.

        Returns
        -------
        Augment

        Examples
        --------
        >>> augment = lenet5c.Augment.lenet5_1998()
        >>> augment.rotate, augment.probability
        (0, 0.9)
        """
        return cls(
            shift=1.5, rotate=0, scale=0.1, shear=8, squeeze=0.1, probability=0.9
        )

    def for_core(self, stage: InputStage) -> tuple[float, ...]:
        """(shift, rotate, scale, shear, squeeze, elastic, sigma, noise, erase,
        probability) for the core: angles in radians, noise in units of what the network
        sees.

        Parameters
        ----------
        stage : InputStage
            Of the model that is trained.

        Returns
        -------
        tuple of float

        Examples
        --------
        >>> augment = lenet5c.Augment(shift=1, rotate=180, elastic=(34, 4))
        >>> augment.for_core(model.stage)[:7]
        (1, 3.14159..., 0.12, 0.0, 0, 34, 4)
        """
        return (
            self.shift,
            math.radians(self.rotate),
            self.scale,
            math.radians(self.shear),
            self.squeeze,
            *self._elastic(),
            self.noise / stage.deviation,
            self.erase,
            self.probability,
        )

    @explained
    def apply(
        self, images: ArrayLike, *, epoch: int = 1, seed: int = 0
    ) -> NDArray[np.float32]:
        """The images as `fit` shows them to the network in that epoch, to look at.

        Parameters
        ----------
        images : array
            (N, H, W) or (N, C, H, W), uint8 or floating.
        epoch, seed : int
            As in `fit`.

        Returns
        -------
        (N, C, H, W) float32 array
            0 to 1 for uint8 images, as they are for floating ones; without the
            normalisation that the network sees. The pixels that come in from outside
            are 0, or the smallest value of floating images.

        Raises
        ------
        TypeError, ValueError
            If the images are of another kind or shape.

        Examples
        --------
        >>> changed = lenet5c.Augment(shift=2).apply(images[:3], epoch=1)
        >>> changed.shape, changed.dtype.name
        ((3, 1, 28, 28), 'float32')
        >>> same = lenet5c.Augment(shift=0, rotate=0, scale=0).apply(images[:3])
        >>> bool(abs(same[:, 0] * 255 - images[:3]).max() < 0.01)
        True
        """
        epoch = whole("epoch", epoch, 0)
        seed = whole("seed", seed, 0, 2**63)
        images = as_array("images", images)
        shape = images.shape
        if len(shape) not in (3, 4):
            raise ValueError(
                f"images: expected (N, H, W) or (N, C, H, W), got the shape {shape}"
            )
        channels = shape[1] if len(shape) == 4 else 1
        pixels = as_images(images, (channels, *shape[-2:]))
        floating = pixels.dtype != np.uint8
        stage = InputStage(background=float(pixels.min()) if floating else 0.0)
        changed = np.empty((len(pixels), pixels[0].size), np.float32)
        core.Network([], pixels.shape[1:]).augmented(
            pixels,
            stage.for_core(),
            np.arange(len(pixels)),
            changed,
            self.for_core(stage),
            seed,
            epoch,
        )
        return changed.reshape(pixels.shape)

    def _table(self) -> Table:
        alpha, sigma = self._elastic()
        rows = [
            ["shift", f"{self.shift:g}", "pixels at most, each way"],
            ["rotate", f"{self.rotate:g}", "degrees at most, either way"],
            ["scale", f"{self.scale:g}", "change of size at most"],
            ["shear", f"{self.shear:g}", "degrees at most, either way"],
            ["squeeze", f"{self.squeeze:g}", "change of width against height at most"],
            ["elastic", f"{alpha:g}", f"alpha, with sigma {sigma:g}"],
            ["noise", f"{self.noise:g}", "its standard deviation"],
            ["erase", f"{self.erase:g}", "probability of a rectangle"],
            ["probability", f"{self.probability:g}", "of being changed at all"],
        ]
        return Table("Augment", ["", "value", "unit"], rows, texts=3)

    def _drawn(self) -> str:
        four = np.repeat(_four()[np.newaxis], SAMPLES, axis=0)
        changed = self.apply(four)[:, 0]
        changed[0] = four[0] / 255.0
        changed = np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
        return strip(changed, "a 4, and what augmentation makes of it", high=56)

    def _elastic(self) -> tuple[float, float]:
        """(alpha, sigma), alpha 0 for none."""
        if self.elastic is None:
            return 0.0, SIGMA
        if isinstance(self.elastic, (tuple, list)):
            if len(self.elastic) != 2:
                raise ValueError(
                    f"elastic: expected alpha, (alpha, sigma) or None, "
                    f"got {self.elastic!r}"
                )
            return self.elastic[0], self.elastic[1]
        return self.elastic, SIGMA


def _four() -> NDArray[np.uint8]:
    """(28, 28): a 4 in strokes, to show what becomes of it."""
    y, x = np.mgrid[:28, :28]
    ink = np.zeros((28, 28))
    for x0, y0, x1, y1 in FOUR:
        along, across = x1 - x0, y1 - y0
        share = ((x - x0) * along + (y - y0) * across) / (along**2 + across**2)
        share = share.clip(0, 1)
        distance = np.hypot(x - x0 - share * along, y - y0 - share * across)
        ink = np.maximum(ink, (2 - distance).clip(0, 1))
    return np.rint(255 * ink).astype(np.uint8)
