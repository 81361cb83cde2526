"""What a training is given: which images are trained on and held out, their weights."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, number
from lenet5c.data.images import InputStage, as_images, encode_labels
from lenet5c.interfaces import Trainable
from lenet5c.training.options import ClassWeight, TrainingOptions, Validation
from lenet5c.training.schedules import ReduceOnPlateau

__all__ = ["HeldOut", "TrainingData", "hash_of"]

Vector = NDArray[np.float32]

HASHED = 1 << 24  # bytes that are hashed at a time


class HeldOut(NamedTuple):
    """Images to measure: those of `pixels` at `indices`, or all for None."""

    pixels: NDArray[Any]
    codes: NDArray[np.int32]
    indices: NDArray[np.intp] | None


class TrainingData(NamedTuple):
    """Images (N, C, H, W), their class numbers (N,) among `classes` and weights (N,),
    which ones to train on, and which to measure."""

    pixels: NDArray[Any]
    codes: NDArray[np.int32]
    classes: NDArray[Any]
    train: NDArray[np.intp]
    weights: Vector | None
    held_out: HeldOut | None

    @classmethod
    def of(
        cls,
        model: Trainable,
        images: ArrayLike,
        labels: ArrayLike,
        options: TrainingOptions,
    ) -> "TrainingData":
        """What `fit` was given, checked, for the options that are about it."""
        _check_validation(options)
        pixels = as_images(images, model.input_shape)
        known = model.classes if model.fitted else None
        classes, codes = encode_labels(labels, len(pixels), model.class_count, known)
        train, held_out = _split(
            options.validation, pixels, codes, classes, model, options.seed or 0
        )
        weights = _weights(
            options.class_weight, options.sample_weight, codes, classes, train
        )
        return cls(pixels, codes, classes, train, weights, held_out)

    def input_of(
        self, model: Trainable, kept: tuple[InputStage, tuple[int, int]] | None
    ) -> tuple[InputStage, tuple[int, int]]:
        """What is done to images and how large they are: as the model has it, as a
        checkpoint has `kept` it, or as the training images have it."""
        # a model that was made with a stage, or has been trained
        is_fixed = model.fitted or model.stage != InputStage()
        if kept is not None:
            other = is_fixed and model.stage != kept[0]
            if other or (model.fitted and model.source != kept[1]):
                raise ValueError(
                    "resume: expected a model that is untrained or has been trained on "
                    f"these images, got the input stage {model.stage}, expected "
                    f"{kept[0]}"
                )
            return kept
        if model.fitted:
            return model.stage, model.source
        height, width = self.pixels.shape[2:]
        if is_fixed:
            return model.stage, (height, width)
        chosen = None if len(self.train) == len(self.pixels) else self.train
        return InputStage.of(self.pixels, chosen), (height, width)

    def check(self, stage: InputStage) -> None:
        """Refuse images that would not mean what `stage` was made for."""
        stage.check(self.pixels)
        if self.held_out is not None and self.held_out.pixels is not self.pixels:
            stage.check(self.held_out.pixels, "validation images")

    def loss_of_guessing(self, classes: int, smoothing: float) -> float:
        """The entropy of the labels as they are trained on."""
        weights = None if self.weights is None else self.weights[self.train]
        share = np.bincount(self.codes[self.train], weights, classes) / len(self.train)
        share = (1 - smoothing) * share + smoothing / classes
        return -float((share * np.log(np.maximum(share, 1e-300))).sum())

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a training to go on to the same bits."""
        pixels, held_out = self.pixels, self.held_out
        return {
            "classes": self.classes.tolist(),
            "images": _told(pixels),
            "labels": hash_of(self.codes),
            "training images": hash_of(self.train),
            "weights of images": (
                None if self.weights is None else hash_of(self.weights)
            ),
            "validation images": (
                None
                if held_out is None or held_out.pixels is pixels
                else _told(held_out.pixels)
            ),
            "validation labels": None if held_out is None else hash_of(held_out.codes),
        }


def _check_validation(options: TrainingOptions) -> None:
    """Refuse what cannot work without images held out."""
    if options.validation is not None:
        return
    if options.early_stopping is not None:
        raise ValueError("early_stopping: expected validation as well, got none")
    if isinstance(options.schedule, ReduceOnPlateau):
        raise ValueError(
            f"schedule: expected validation as well for {options.schedule!r}, got none"
        )


def _split(
    validation: Validation,
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    classes: NDArray[Any],
    model: Trainable,
    seed: int,
) -> tuple[NDArray[np.intp], HeldOut | None]:
    """Positions of the training images, and the images held out."""
    everything = np.arange(len(pixels))
    if validation is None:
        return everything, None
    if isinstance(validation, (float, np.floating)):
        share = number("validation", validation, 0, 1)
        if share == 0:
            raise ValueError("validation: expected 0 < x < 1, or None, got 0")
        held_out = share_of_each_class(share, codes, seed)
        if held_out.all():
            raise ValueError(
                f"validation: {validation} of {len(pixels)} images leaves none to "
                "train on"
            )
        indices = np.flatnonzero(held_out)
        return np.flatnonzero(~held_out), HeldOut(pixels, codes, indices)
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(
            "validation: expected a fraction, (images, labels) or None, "
            f"got {type(validation).__name__}"
        )
    images = as_images(validation[0], model.input_shape, "validation images")
    if images.shape[1:] != pixels.shape[1:]:
        raise ValueError(
            f"validation: expected images of the shape {pixels.shape[1:]}, like the "
            f"training images, got {images.shape[1:]}"
        )
    _, of_images = encode_labels(
        validation[1], len(images), model.class_count, classes, "validation labels"
    )
    return everything, HeldOut(images, of_images, None)


def share_of_each_class(
    share: float, codes: NDArray[np.int32], seed: int
) -> NDArray[np.bool_]:
    """Which images are held out, (N,): that share of all, at random, and of each class
    as nearly as whole images allow; at least one."""
    shuffled = np.random.default_rng((seed, 0)).permutation(len(codes))
    counts = np.bincount(codes)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    # an image's place in its class, from 0 to 1: those who stand first are held out
    place = (rank + 0.5) / counts[codes[by_class]]
    count = max(1, round(share * len(codes)))
    chosen = np.zeros(len(codes), np.bool_)
    chosen[by_class[np.argsort(place, kind="stable")[:count]]] = True
    return chosen


def _weights(
    class_weight: ClassWeight,
    sample_weight: ArrayLike | None,
    codes: NDArray[np.int32],
    classes: NDArray[Any],
    train: NDArray[np.intp],
) -> Vector | None:
    """What each image's loss is multiplied by, (N,); of mean 1 over the training
    images."""
    if class_weight is None and sample_weight is None:
        return None
    weights = np.ones(len(codes))
    argument = "sample_weight"
    if sample_weight is not None:
        weights = _sample_weights(sample_weight, len(codes))
    if class_weight is not None:
        by_class = _class_weights(class_weight, classes, codes[train])
        argument = "class_weight" if sample_weight is None else argument
        # so that products of huge numbers stay finite
        weights = weights / (weights.max() or 1)
        weights *= (by_class / (by_class.max() or 1))[codes]
    most = weights[train].max()
    if most == 0:
        raise ValueError(
            f"{argument}: expected a weight above 0 for one training image at least, "
            "got none"
        )
    with np.errstate(over="ignore"):  # of an image held out, whose weight is not used
        weights = weights / most
        scaled: Vector = (weights / weights[train].mean()).astype(np.float32)
    return scaled


def _sample_weights(sample_weight: ArrayLike, count: int) -> NDArray[np.float64]:
    array = as_array("sample_weight", sample_weight)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight: expected numbers, got {array.dtype}")
    if array.shape != (count,):
        raise ValueError(
            f"sample_weight: expected the shape ({count},), got {array.shape}"
        )
    weights = array.astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"sample_weight: expected finite numbers of at least 0, got {weights[at]} "
            f"for image {at}"
        )
    return weights


def _class_weights(
    class_weight: ClassWeight, classes: NDArray[Any], codes: NDArray[np.int32]
) -> NDArray[np.float64]:
    """The weight of each class, (classes,); `codes` are those of the training images.

    "balanced": the inverse of how many images there are of the class.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(codes, minlength=len(classes))
        return 1 / np.maximum(counts, 1)
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            "class_weight: expected 'balanced', a dict of weights by label or None, "
            f"got {class_weight!r}"
        )
    code_of = {label: code for code, label in enumerate(classes.tolist())}
    weights = np.ones(len(classes))
    for label, weight in class_weight.items():
        plain = label.item() if isinstance(label, np.generic) else label
        if plain not in code_of:
            raise ValueError(
                f"class_weight: expected labels among {list(code_of)!r:.200}, "
                f"got {label!r}"
            )
        weights[code_of[plain]] = number("class_weight", weight, 0, math.inf)
    return weights


def _told(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape} {pixels.dtype} {hash_of(pixels)}"


def hash_of(array: NDArray[Any]) -> str:
    """32 hexadecimal digits that tell an array's numbers from others."""
    import hashlib  # here: loads OpenSSL, which not every training needs

    content = np.ascontiguousarray(array).data.cast("B")
    found = hashlib.sha256()
    for start in range(0, len(content), HASHED):  # Ctrl-C waits for each
        found.update(content[start : start + HASHED])
    return found.hexdigest()[:32]
