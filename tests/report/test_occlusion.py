"""Occlusion: each place is covered with background, and the rest is a mean."""

import numpy as np
import pytest

import lenet5c
from lenet5c.data.images import InputStage
from lenet5c.report.occlusion import occlusion


def slowly(model, image, patch, step, background):
    """The effect, and the probability under each place of the patch."""
    maps = image.reshape(-1, *image.shape[-2:])
    height, width = maps.shape[1:]
    (before,) = model.predict_proba(maps[np.newaxis]).astype(np.float64)
    code = before.argmax()
    total, count, chances = np.zeros((height, width)), np.zeros((height, width)), {}
    for row in sorted({*range(0, height - patch, step), height - patch}):
        for column in sorted({*range(0, width - patch, step), width - patch}):
            covered = maps.copy()
            covered[:, row : row + patch, column : column + patch] = background
            (after,) = model.predict_proba(covered[np.newaxis]).astype(np.float64)
            part = np.s_[row : row + patch, column : column + patch]
            total[part] += before[code] - after[code]
            count[part] += 1
            chances[row, column] = after[code]
    return total / count, code, before[code], chances


@pytest.mark.parametrize("patch", [None, 1, 5, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_effect_is_that_of_each_place_covered(patch, channels):
    rng = np.random.default_rng(channels)
    model = lenet5c.Model(
        [lenet5c.Conv2d(4, 3), lenet5c.Tanh(), lenet5c.Dense(5)],
        input_shape=(channels, 11, 9),
        classes=5,
        seed=2,
    )
    stage = InputStage(0.3, 0.25, -0.4, "bytes")
    model.set_input(stage, (11, 9), np.arange(5))
    shape = (11, 9) if channels == 1 else (3, 11, 9)
    image = rng.integers(0, 256, shape).astype(np.uint8)
    background = round(255 * (0.3 - 0.4 * 0.25))
    side = patch or 2
    effect, code, before, chances = slowly(
        model, image, side, max(1, side // 3), background
    )
    found = occlusion(model, image, patch=patch, threads=1)
    np.testing.assert_allclose(found.effect, effect, atol=1e-6)
    assert (found.code, found.patch) == (code, side)
    assert found.probability == pytest.approx(before, abs=1e-6)
    most = max(abs(before - chance) for chance in chances.values())
    assert abs(found.probability - found.covered) == pytest.approx(most, abs=1e-6)
    at_patch = chances[found.row, found.column]
    assert found.covered == pytest.approx(at_patch, abs=1e-6)
    as_floats = occlusion(model, (image / 255).astype(np.float32), patch=patch)
    np.testing.assert_allclose(as_floats.effect, effect, atol=0.01)


def test_what_the_network_does_not_look_at_has_no_effect():
    model = lenet5c.Model([lenet5c.Dense(2)], input_shape=(1, 8, 8), classes=2)
    weight = model.parameters["dense_1.weight"]
    weight[:] = 0
    weight[0, 8 * 6 + 1] = 3  # row 6, column 1
    model.set_input(InputStage(), (8, 8), np.arange(2))
    found = occlusion(model, np.ones((8, 8), np.float32), patch=2)
    seen = np.zeros((8, 8), bool)
    seen[5:8, 0:3] = True  # where a patch lies that covers the pixel
    assert (found.effect[seen] > 0.1).all()
    assert (found.effect[~seen] == 0).all()
    assert (found.row, found.column) in [(r, c) for r in (5, 6) for c in (0, 1)]
    assert found.covered == pytest.approx(0.5)


@pytest.mark.parametrize("image", [np.zeros(9), np.zeros((1, 1, 9, 9)), 3])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match="image: expected"):
        occlusion(lenet5c.lenet5(), image)


@pytest.mark.parametrize("patch", [0, 10])
def test_a_patch_that_does_not_fit_is_refused(patch):
    with pytest.raises(ValueError, match="patch: expected 1 to 9"):
        occlusion(lenet5c.lenet5(), np.zeros((9, 20), np.uint8), patch=patch)
