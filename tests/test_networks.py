"""The ready-made networks have the sizes of the paper, and their options work."""

import math

import numpy as np
import pytest

import lenet5c
from lenet5c import networks


def counts(model: lenet5c.Model) -> dict[str, int]:
    """Parameters by layer."""
    found: dict[str, int] = {}
    for name, value in model.parameters.items():
        layer = name.split(".")[0]
        found[layer] = found.get(layer, 0) + value.size
    return found


def test_lenet5_has_the_parameters_of_the_paper():
    model = lenet5c.lenet5()
    assert counts(model) == {
        "C1": 156,
        "C3": 2_416,
        "C5": 48_120,
        "F6": 10_164,
        "OUTPUT": 850,
    }
    assert model.parameter_count == len(model.parameter_vector) == 61_706
    assert model.multiply_adds == 416_520


def test_lenet5_has_the_maps_of_the_paper():
    model = lenet5c.lenet5()
    shapes = {
        layer.name: shape
        for layer, shape in zip(model.layers, model.shapes[1:], strict=True)
    }
    assert model.shapes[0] == (1, 32, 32)
    assert shapes["C1"] == (6, 28, 28)
    assert shapes["S2"] == (6, 14, 14)
    assert shapes["C3"] == (16, 10, 10)
    assert shapes["S4"] == (16, 5, 5)
    assert shapes["C5"] == (120, 1, 1)
    assert shapes["F6"] == (84, 1, 1)
    assert shapes["OUTPUT"] == (10, 1, 1)


def test_the_table_of_c3_is_that_of_the_paper():
    """Its text: six maps of three neighbours, six of four, three of two and two, one of
    all; S2's maps stand in a ring."""
    ring = [{0, 1, 2}] * 6 + [{0, 1, 2, 3}] * 6 + [{0, 1, 3, 4}] * 3 + [{*range(6)}]
    turns = [*range(6), *range(6), *range(3), 0]
    expected = [
        sorted((channel + turn) % 6 for channel in channels)
        for channels, turn in zip(ring, turns, strict=True)
    ]
    assert [list(channels) for channels in networks.TABLE_I] == expected
    assert sum(map(len, networks.TABLE_I)) == 60
    for channel in range(6):
        assert sum(channel in channels for channels in networks.TABLE_I) == 10


PUBLISHED = {  # trainable parameters, connections with those of biases
    "C1": (156, 122_304),
    "S2": (12, 5_880),
    "C3": (1_516, 151_600),
    "S4": (32, 2_000),
    "C5": (48_120, 48_120),
    "F6": (10_164, 10_164),
    "OUTPUT": (0, 840),
}


def test_lenet5_1998_has_the_parameters_and_connections_of_the_paper():
    model = lenet5c.lenet5_1998()
    found = {}
    for layer, before, after in lenet5c.layers.walk(model.layers, model.input_shape):
        if layer.name not in PUBLISHED:
            assert isinstance(layer, lenet5c.ScaledTanh)
            continue
        shapes = layer.parameter_shapes(before)
        connections = layer.multiply_adds(before)
        if isinstance(layer, lenet5c.Subsampling2d):  # it reads each input of a window
            connections *= layer.kernel_size**2
        connections += math.prod(after) if "bias" in shapes else 0
        found[layer.name] = (sum(map(math.prod, shapes.values())), connections)
    assert found == PUBLISHED
    assert model.parameter_count == sum(n for n, _ in found.values()) == 60_000
    assert sum(n for _, n in found.values()) == 340_908
    table = model.summary().splitlines()
    assert any(line.split()[-2:] == ["1,516", "150,000"] for line in table)


def test_the_codes_of_lenet5_1998_are_the_printed_digits():
    codes = np.array(networks.DIGIT_CODES)
    assert codes.shape == (10, 84)
    assert set(codes.ravel()) == {-1, 1}
    seven = codes[7].reshape(12, 7)
    assert ["".join(" #"[int(v > 0)] for v in row).rstrip() for row in seven] == [
        *("#######", "     ##", "     ##", "    ##", "   ##", "   ##"),
        *("  ##", "  ##", "  ##", "  ##", "", ""),
    ]
    model = lenet5c.lenet5_1998()
    np.testing.assert_array_equal(model.buffers["OUTPUT.codes"], codes)
    others = [lenet5c.lenet5_1998(classes=26, seed=s).buffers for s in (0, 0, 1)]
    first, again, other = (each["OUTPUT.codes"] for each in others)
    assert first.shape == (26, 84)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_lenet5_1998_sees_bytes_as_the_paper_has_them():
    model = lenet5c.lenet5_1998()
    images = np.zeros((2, 28, 28), np.uint8)
    images[:, 0, 0] = 255
    model.fit(images, [3, 5], epochs=1, recipe="1998")
    scale, offset, background, *_ = model.stage.for_core()
    assert (offset, 255 * scale + offset) == pytest.approx((-0.1, 1.175))
    assert background == pytest.approx(-0.1)


def test_mlp_has_one_hidden_layer_of_100():
    model = lenet5c.mlp()
    assert counts(model) == {"HIDDEN": 78_500, "OUTPUT": 1_010}
    assert model.parameter_count == 79_510
    assert model.multiply_adds == 784 * 100 + 100 * 10


def test_cnn3_has_three_convolutions():
    model = lenet5c.cnn3()
    assert counts(model) == {
        "CONV1": 320,
        "CONV2": 18_496,
        "CONV3": 73_856,
        "OUTPUT": 11_530,
    }
    assert model.parameter_count == 104_202
    assert model.multiply_adds == (
        26 * 26 * 32 * 9 + 11 * 11 * 64 * 32 * 9 + 9 * 128 * 64 * 9 + 1152 * 10
    )


def test_networks_by_name_are_the_functions():
    found = networks.NETWORKS
    assert found == {
        "lenet5": lenet5c.lenet5,
        "mlp": lenet5c.mlp,
        "cnn3": lenet5c.cnn3,
        "resnet18": lenet5c.resnet18,
        "lenet5-1998": lenet5c.lenet5_1998,
    }


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_classes_and_channels_are_options_of_every_network(name):
    model = networks.NETWORKS[name](classes=7, channels=3, seed=1)
    images = np.zeros((2, *model.input_shape), np.float32)
    assert model.input_shape[0] == 3
    assert model.forward(images).shape == (2, 7)
    np.testing.assert_array_equal(model.classes, np.arange(7))
    usual = networks.NETWORKS[name]()
    first = next(iter(model.parameters.values()))
    assert first.size == 3 * next(iter(usual.parameters.values())).size


def test_hidden_is_an_option_of_mlp():
    assert lenet5c.mlp(hidden=30).parameters["HIDDEN.weight"].shape == (30, 784)


@pytest.mark.parametrize(
    "activation", ["tanh", "scaled-tanh", "relu", "sigmoid", "leaky-relu"]
)
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_activation_and_pooling_are_options_of_lenet5(activation, pooling):
    model = lenet5c.lenet5(activation=activation, pooling=pooling)
    kinds = [layer.kind for layer in model.layers]
    activation = activation.replace("-", "_")
    assert kinds == [
        *("conv2d", activation, f"{pooling}_pool2d"),
        *("conv2d", activation, f"{pooling}_pool2d"),
        *("conv2d", activation, "flatten", "dense", activation, "dense"),
    ]


def test_activation_is_an_option_of_mlp():
    assert lenet5c.mlp().layers[2].kind == "relu"
    assert lenet5c.mlp(activation="tanh").layers[2].kind == "tanh"


@pytest.mark.parametrize(
    ("options", "error", "argument"),
    [
        ({"activation": "softplus"}, ValueError, "activation"),
        ({"activation": None}, ValueError, "activation"),
        ({"pooling": "sum"}, ValueError, "pooling"),
        ({"pooling": 2}, ValueError, "pooling"),
        ({"classes": 1}, ValueError, "classes|outputs"),
        ({"classes": 0}, ValueError, "classes|outputs"),
        ({"classes": -3}, ValueError, "classes|outputs"),
        ({"classes": 2.5}, TypeError, "classes|outputs"),
        ({"classes": True}, TypeError, "classes|outputs"),
        ({"classes": None}, TypeError, "classes|outputs"),
        ({"channels": 0}, ValueError, "input_shape|channels"),
        ({"channels": "3"}, TypeError, "input_shape|channels"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.0}, TypeError, "seed"),
        ({"seed": None}, TypeError, "seed"),
    ],
)
def test_bad_options_are_refused_by_name(options, error, argument):
    with pytest.raises(error, match=argument):
        lenet5c.lenet5(**options)


def fans(weight: np.ndarray) -> tuple[int, int]:
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


@pytest.mark.parametrize("name", ["C1", "C3", "C5", "F6", "OUTPUT"])
@pytest.mark.parametrize(
    "activation", ["tanh", "scaled-tanh", "relu", "sigmoid", "leaky-relu"]
)
def test_weights_start_by_the_activation_that_follows(name, activation):
    """Glorot before tanh and sigmoid and at the output, He before ReLU; uniform."""
    weight = lenet5c.lenet5(activation=activation).parameters[f"{name}.weight"]
    fan_in, fan_out = fans(weight)
    he = activation in ("relu", "leaky-relu") and name != "OUTPUT"
    limit = math.sqrt(6 / fan_in if he else 6 / (fan_in + fan_out))
    largest = np.abs(weight).max()
    assert (1 - 12 / weight.size) * limit < largest <= limit * (1 + 1e-6)
    assert abs(weight.mean()) < 5 * limit / math.sqrt(3 * weight.size)
    assert weight.std() == pytest.approx(limit / math.sqrt(3), rel=0.12)


def test_biases_start_at_zero():
    for name, value in lenet5c.lenet5().parameters.items():
        assert (value == 0).all() == name.endswith(".bias")


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_the_seed_decides_the_weights(name):
    make = networks.NETWORKS[name]
    first = make(seed=5).parameter_vector
    np.testing.assert_array_equal(first, make(seed=5).parameter_vector)
    assert not np.array_equal(first, make(seed=6).parameter_vector)
    np.testing.assert_array_equal(
        make().parameter_vector, make(seed=0).parameter_vector
    )


@pytest.mark.parametrize(
    ("size", "kernel"),
    [(32, (5, 5)), (28, (4, 4)), (16, (1, 1)), (33, (5, 5)), ((64, 20), (13, 2))],
)
def test_c5_covers_the_map_of_s4_for_any_size(size, kernel):
    model = lenet5c.lenet5(size=size)
    shape = {layer.name: shape for layer, _, shape in model._walked}
    rows, columns = size if isinstance(size, tuple) else (size, size)
    assert model.input_shape == (1, rows, columns)
    assert shape["S4"] == (16, *kernel)
    assert shape["C5"] == (120, 1, 1)
    assert model.parameters["C5.weight"].shape == (120, 16, *kernel)
    images = np.random.default_rng(0).random((3, rows, columns), np.float32)
    assert model.forward(images).shape == (3, 10)
    assert model.fit(images, [0, 1, 2], epochs=1).loss[0] > 0


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_size_is_an_option_of_every_network(name):
    make = networks.NETWORKS[name]
    model = make(size=(40, 24), channels=2)
    images = np.random.default_rng(0).random((3, 2, 40, 24), np.float32)
    assert model.input_shape == (2, 40, 24)
    assert model.forward(images).shape == (3, 10)
    usual = {"mlp": 28, "cnn3": 28}.get(name, 32)
    np.testing.assert_array_equal(
        make().parameter_vector, make(size=usual).parameter_vector
    )


@pytest.mark.parametrize(
    ("name", "least"),
    [("lenet5", 16), ("lenet5-1998", 16), ("mlp", 1), ("cnn3", 18), ("resnet18", 1)],
)
def test_too_small_a_size_is_refused_with_the_smallest_that_works(name, least):
    make = networks.NETWORKS[name]
    model = make(size=least)
    assert model.forward(np.ones((1, least, least), np.float32)).shape == (1, 10)
    for size in (least - 1, (least, least - 1), (least - 1, least)):
        with pytest.raises(ValueError, match=f"^size: expected {least} to"):
            make(size=size)
    for size in (28.0, "28", (1, 28, 28), None):
        with pytest.raises((TypeError, ValueError), match=r"^size: expected"):
            make(size=size)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"activation": "Relu"}, "relu"),
        ({"activation": "tahn"}, "tanh"),
        ({"pooling": "mean"}, "avg"),
        ({"pooling": "average"}, "avg"),
        ({"pooling": "MAX"}, "max"),
    ],
)
def test_a_choice_that_is_nearly_one_is_refused_with_that(options, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        lenet5c.lenet5(**options)
