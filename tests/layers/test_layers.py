"""Layers know their sizes, refuse what does not fit, and survive a file."""

import math

import numpy as np
import pytest

import lenet5c
from lenet5c import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    RadialBasis,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
)
from lenet5c.layers import (
    LAYERS,
    Layer,
    initialise,
    layer_from_dict,
    layer_to_dict,
)


@pytest.mark.parametrize(
    ("layer", "shape", "output"),
    [
        (Conv2d(6, 5), (1, 32, 32), (6, 28, 28)),
        (Conv2d(4, (3, 2)), (7, 9, 5), (4, 7, 4)),
        (Conv2d(4, (3, 2), stride=2), (7, 9, 5), (4, 4, 2)),
        (Conv2d(4, 3, stride=2, padding=1), (2, 8, 7), (4, 4, 4)),
        (Conv2d(4, 3, padding=2), (2, 1, 1), (4, 3, 3)),
        (Conv2d(1, 4, stride=9), (1, 4, 4), (1, 1, 1)),
        (AvgPool2d(2), (6, 28, 28), (6, 14, 14)),
        (MaxPool2d(2), (3, 5, 7), (3, 2, 3)),
        (AvgPool2d(3, 2), (3, 9, 10), (3, 4, 4)),
        (MaxPool2d(2, 1), (3, 4, 5), (3, 3, 4)),
        (Dense(84), (120, 1, 1), (84, 1, 1)),
        (Dense(5), (2, 3, 4), (5, 1, 1)),
        (RadialBasis(10), (84, 1, 1), (10, 1, 1)),
        (RadialBasis(2, codes=np.zeros((2, 24))), (2, 3, 4), (2, 1, 1)),
        (Flatten(), (2, 3, 4), (24, 1, 1)),
        (Tanh(), (2, 3, 4), (2, 3, 4)),
        (ReLU(), (2, 3, 4), (2, 3, 4)),
    ],
)
def test_output_shape(layer, shape, output):
    assert layer.output_shape(shape) == output


@pytest.mark.parametrize(
    ("layer", "shape", "shapes", "multiply_adds"),
    [
        (Conv2d(6, 5), (1, 32, 32), ((6, 1, 5, 5), (6,)), 117_600),
        (Conv2d(16, 5), (6, 14, 14), ((16, 6, 5, 5), (16,)), 240_000),
        (Conv2d(4, (3, 2), stride=2), (7, 9, 5), ((4, 7, 3, 2), (4,)), 4 * 4 * 2 * 42),
        (Dense(5), (2, 3, 4), ((5, 24), (5,)), 120),
        (RadialBasis(10), (84, 1, 1), (), 840),
        (AvgPool2d(2), (6, 28, 28), (), 0),
        (MaxPool2d(2), (6, 28, 28), (), 0),
        (Tanh(), (6, 28, 28), (), 0),
        (Flatten(), (6, 28, 28), (), 0),
    ],
)
def test_parameters_and_multiply_adds(layer, shape, shapes, multiply_adds):
    expected = dict(zip(("weight", "bias"), shapes, strict=False))
    assert layer.parameter_shapes(shape) == expected
    assert list(layer.parameter_shapes(shape)) == list(expected)
    assert layer.multiply_adds(shape) == multiply_adds


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d(6, 5), (1, 4, 32), "kernel 5x5 is larger than its padded input 4x32"),
        (Conv2d(6, 5, name="C1"), (1, 32, 4), "C1: kernel"),
        (Conv2d(6, 5, padding=1), (1, 2, 2), "padded input 4x4"),
        (AvgPool2d(3), (1, 2, 9), "AvgPool2d: window 3x3 is larger than its input 2x9"),
        (MaxPool2d(3, name="S2"), (1, 9, 2), "S2: window"),
    ],
)
def test_a_window_larger_than_its_input_is_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.output_shape(shape)


NOT_WHOLE = [None, 2.0, "2", True, np.True_, [2, 2, 2], np.array([2, 2])]


@pytest.mark.parametrize(
    ("make", "argument", "least"),
    [
        (lambda value: Conv2d(value, 3), "filters", 1),
        (lambda value: Conv2d(2, value), "kernel_size", 1),
        (lambda value: Conv2d(2, (3, value)), "kernel_size", 1),
        (lambda value: Conv2d(2, 3, stride=value), "stride", 1),
        (lambda value: Conv2d(2, 3, padding=value), "padding", 0),
        (lambda value: Dense(value), "outputs", 1),
        (lambda value: RadialBasis(value), "outputs", 1),
        (lambda value: AvgPool2d(value), "kernel_size", 1),
        (lambda value: MaxPool2d(value), "kernel_size", 1),
        (lambda value: MaxPool2d(2, stride=value), "stride", 1),
    ],
)
def test_bad_sizes_are_refused_by_name(make, argument, least):
    for value in NOT_WHOLE:
        if value is None and isinstance(make(1), MaxPool2d) and argument == "stride":
            continue  # None is the window's size
        with pytest.raises((TypeError, ValueError), match=f"^{argument}: expected"):
            make(value)
    for value in (least - 1, -7, 1 << 40):
        with pytest.raises(ValueError, match=f"^{argument}: expected"):
            make(value)
    assert make(np.int64(least)) == make(least)


@pytest.mark.parametrize("make", [lambda init: Conv2d(2, 3, init=init), Dense])
def test_unknown_initialisations_are_refused(make):
    make_init = make if make is not Dense else lambda init: Dense(2, init=init)
    for init in ("xavier", "", 1, True, ["he"]):
        with pytest.raises(ValueError, match="init: expected 'glorot', 'he', 'lecun'"):
            make_init(init)


@pytest.mark.parametrize("name", ["", 5, "x" * 65, ["A"], b"A"])
@pytest.mark.parametrize("kind", [Dense, Conv2d, Tanh, AvgPool2d, Flatten])
def test_names_that_a_file_could_not_hold_are_refused(kind, name):
    sizes = {Dense: (2,), Conv2d: (2, 3), AvgPool2d: (2,)}.get(kind, ())
    with pytest.raises((TypeError, ValueError), match="name"):
        kind(*sizes, name=name)


@pytest.mark.parametrize(
    ("layer", "same"),
    [
        (Conv2d(6, 5, stride=(2, 2)), Conv2d(6, 5, stride=2)),
        (Conv2d(6, 5, padding=[2, 2]), Conv2d(6, 5, padding=2)),
        (MaxPool2d((2, 2)), MaxPool2d(2)),
        (MaxPool2d(3, (2, 2), padding=(1, 1)), MaxPool2d(3, 2, padding=1)),
        (AvgPool2d([3, 3], stride=(1, 1)), AvgPool2d(3, 1)),
        (MaxPool2d(2, 2), MaxPool2d(2)),
        (MaxPool2d(3, 2, 1), MaxPool2d(3, stride=2, padding=1)),
    ],
)
def test_a_pair_of_equal_numbers_is_one_number(layer, same):
    assert layer == same
    assert layer_to_dict(layer) == layer_to_dict(same)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Conv2d(6, 5, stride=(2, 1)), "stride"),
        (lambda: Conv2d(6, 5, padding=(0, 2)), "padding"),
        (lambda: MaxPool2d((2, 3)), "kernel_size"),
        (lambda: AvgPool2d(2, (1, 2)), "stride"),
        (lambda: MaxPool2d(2, padding=(1, 0)), "padding"),
    ],
)
def test_different_numbers_for_the_directions_are_refused(make, argument):
    with pytest.raises(ValueError, match=f"^{argument}: .* both directions"):
        make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Conv2d(6, 5, padding="same"), "that is padding=2"),
        (lambda: Conv2d(6, (3, 3), padding="SAME"), "that is padding=1"),
        (lambda: Conv2d(6, 1, padding="same"), "that is padding=0"),
        (lambda: Conv2d(6, 5, padding="valid"), "that is padding=0"),
        (lambda: Conv2d(6, 4, padding="same"), "kernels are odd squares"),
        (lambda: Conv2d(6, (3, 5), padding="same"), "kernels are odd squares"),
        (lambda: Conv2d(6, 5, stride=2, padding="same"), "stride is 1"),
        (lambda: MaxPool2d(2, padding="same"), "kernels are odd squares"),
    ],
)
def test_a_word_for_padding_is_refused_with_its_number(make, said):
    with pytest.raises(TypeError, match=f"^padding: .*{said}"):
        make()


def test_the_number_said_for_same_keeps_the_size():
    for kernel in (1, 3, 5, 7):
        layer = Conv2d(4, kernel, padding=(kernel - 1) // 2)
        assert layer.output_shape((1, 9, 11)) == (4, 9, 11)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Conv2d(1, 6, 5), r"Conv2d: .* got 3; .* is Conv2d\(6, 5\) here"),
        (lambda: Dense(120, 84), r"Dense: .* got 2; .* is Dense\(84\) here"),
        (lambda: BatchNorm2d(16), r"BatchNorm2d: .* is BatchNorm2d\(\) here"),
        (lambda: AvgPool2d(3, 2, 1), "AvgPool2d: .* 2 arguments .* got 3"),
        (lambda: ReLU(True), "ReLU: .* 0 arguments .* got 1; by name: name="),
        (lambda: Flatten(1), "Flatten: .* got 1"),
        (lambda: Dropout(0.5, False), "Dropout: .* 1 argument .* got 2"),
    ],
)
def test_orders_of_other_libraries_are_refused(make, said):
    with pytest.raises(TypeError, match=f"^{said}"):
        make()


EVERY_LAYER = [
    Conv2d(6, (5, 3), stride=2, padding=1, init="he", name="C1"),
    Dense(84, init="lecun-1998", name="F6"),
    RadialBasis(2, codes=[[1, -1], [0.5, 1]], name="OUTPUT"),
    AvgPool2d(3, 2, name="S2"),
    MaxPool2d(2, name="S4"),
    Subsampling2d(3, 2, name="S6"),
    Tanh(name="T"),
    ReLU(name="R"),
    Sigmoid(name="G"),
    ScaledTanh(name="H"),
    LeakyReLU(0.2, name="L"),
    Dropout(0.25, name="d"),
    Flatten(name="f"),
    BatchNorm2d(momentum=0.2, eps=1e-3, name="B"),
    GlobalAvgPool2d(name="g"),
    Residual(
        [Conv2d(6, 3, padding=1, bias=False, name="A")],
        [Residual([ReLU(name="r")], name="inner")],
        name="outer",
    ),
    Conv2d(2, 3, connections=[[0, 2], [1]], name="table"),
]


def test_every_layer_is_the_same_after_a_dictionary():
    assert {layer.kind for layer in EVERY_LAYER} == set(LAYERS)
    for layer in EVERY_LAYER:
        values = layer_to_dict(layer)
        again = layer_from_dict(values)
        assert type(again) is type(layer)
        assert again == layer
        assert layer_to_dict(again) == values


SPARSE = Conv2d(3, (2, 3), connections=[[0], (1, 2), range(3)], bias=False)


def test_a_table_of_connections_has_weights_for_its_pairs_alone():
    assert SPARSE.connections == ((0,), (1, 2), (0, 1, 2))
    assert SPARSE.parameter_shapes((3, 6, 7)) == {"weight": (6, 2, 3)}
    assert SPARSE.output_shape((3, 6, 7)) == (3, 5, 5)
    assert SPARSE.multiply_adds((3, 6, 7)) == 6 * 6 * 25
    assert SPARSE.pairs == ([0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 2])
    weight = np.arange(36, dtype=np.float32).reshape(6, 2, 3)
    full = SPARSE.with_zeros(weight, 4)
    assert (full.shape, full.dtype) == ((3, 4, 2, 3), np.float32)
    np.testing.assert_array_equal(full[SPARSE.pairs], weight)
    assert full.sum() == weight.sum()
    assert Conv2d(3, 2).with_zeros(full, 4) is full
    assert "connections" not in layer_to_dict(Conv2d(3, 2))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (3, "connections: expected the channels of each filter, got int"),
        ("012", "connections: expected the channels of each filter, got str"),
        ({0: [1]}, "connections: expected the channels of each filter, got dict"),
        ([[0]], "connections: expected the channels of each filter, 2 lists, got 1"),
        ([], "connections: expected the channels of each filter, 2 lists, got 0"),
        ([0, 1], r"connections\[0\]: expected a list of channels, got int"),
        ([[0], "1"], r"connections\[1\]: expected a list of channels, got str"),
        ([[0], []], r"connections\[1\]: expected one channel at least, got none"),
        ([[0], [2, 2]], r"connections\[1\]: expected ascending .* got 2 behind 2"),
        ([[3, 1], [2]], r"connections\[0\]: expected ascending .* got 1 behind 3"),
        ([[0], [-1]], r"connections\[1\]: expected 0 to 1048576, got -1"),
        ([[0], [1.0]], r"connections\[1\]: expected a whole number, got 1.0"),
        ([[0], [True]], r"connections\[1\]: expected a whole number, got True"),
        ([[0], [[1]]], r"connections\[1\]: expected whole numbers, got a list"),
    ],
)
def test_tables_that_are_none_are_refused(table, said):
    with pytest.raises((TypeError, ValueError), match=f"^{said}"):
        Conv2d(2, 3, connections=table)


def test_a_table_nested_without_end_is_refused():
    endless = []
    endless.append(endless)
    for table in (endless, [endless, [0]], [[0], [endless]]):
        with pytest.raises((TypeError, ValueError), match=r"^connections"):
            Conv2d(2, 3, connections=table)


def test_channels_that_a_map_has_not_are_refused():
    layer = Conv2d(2, 3, connections=[[0], [1, 4]], name="C3")
    assert layer.output_shape((5, 9, 9)) == (2, 7, 7)
    expected = "C3: connections: expected channels from 0 to 3, got 4"
    with pytest.raises(ValueError, match=expected):
        layer.output_shape((4, 9, 9))
    wide = Conv2d(2**14, 1, connections=[[0]] * 2**14)
    wide.output_shape((2**14, 1, 1))
    with pytest.raises(ValueError, match=r"at most 268435456 weights .* got 268451840"):
        wide.output_shape((2**14 + 1, 1, 1))


@pytest.mark.parametrize("init", ["he", "lecun", "glorot", "lecun-1998"])
def test_filters_of_a_table_start_by_their_own_channels(init):
    table = [range(400), [7], range(0, 400, 4)]
    layers = [Conv2d(3, 3, connections=table, init=init, name="C3")]
    model = lenet5c.Model(layers, input_shape=(400, 3, 3), classes=3)
    weight, start = model.parameters["C3.weight"], 0
    for listed in map(len, table):
        part = weight[start : start + listed]
        start += listed
        fan_in, fan_out = listed * 9, 501 / 400 * 9
        limit = {
            "he": math.sqrt(6 / fan_in),
            "lecun": math.sqrt(3 / fan_in),
            "glorot": math.sqrt(6 / (fan_in + fan_out)),
            "lecun-1998": 2.4 / fan_in,
        }[init]
        assert 0.6 * limit < np.abs(part).max() <= limit * (1 + 1e-6)


def test_layers_are_frozen():
    for layer in EVERY_LAYER:
        with pytest.raises(AttributeError):
            layer.name = "other"


GOOD = layer_to_dict(Conv2d(6, 5, name="C1"))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "conv3d", "name": "C1"},
        {"kind": None},
        {"kind": ["conv2d"]},
        {"kind": "conv2d"},
        GOOD | {"dilation": 2},
        {key: value for key, value in GOOD.items() if key != "stride"},
        layer_to_dict(RadialBasis(1, name="R")) | {"codes": [[1]]},  # they are a tensor
        GOOD | {"filters": "6"},
        GOOD | {"filters": 0},
        GOOD | {"stride": -1},
        GOOD | {"stride": 1e9},
        GOOD | {"kernel_size": [5]},
        GOOD | {"init": "zeros"},
        GOOD | {"connections": [[0]]},
        GOOD | {"connections": {}},
        GOOD | {"name": ""},
        GOOD | {"name": None},
        GOOD | {"name": 5},
        GOOD | {"name": "x" * 65},
        "conv2d",
        None,
        7,
    ],
)
def test_dictionaries_that_are_no_layer_are_refused(values):
    with pytest.raises((TypeError, ValueError)):
        layer_from_dict(values)


def test_the_base_has_no_kind_of_its_own():
    assert Layer().kind == ""
    assert Layer().output_shape((1, 2, 3)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        *(("glorot", 2 / (150 + 400)), ("he", 2 / 150), ("lecun", 1 / 150)),
        ("lecun-1998", (2.4 / 150) ** 2 / 3),
    ],
)
def test_initialisations_have_the_variance_of_their_paper(init, variance):
    weight = np.zeros((16, 6, 5, 5), np.float32)
    initialise(weight, init, np.random.default_rng(0))
    assert weight.var() == pytest.approx(variance, rel=0.05)
    limit = math.sqrt(3 * variance)
    assert 0.99 * limit < np.abs(weight).max() <= limit * (1 + 1e-6)


def test_subsampling_starts_uniform_in_2_4_over_its_window():
    layers = [Subsampling2d(2, name="A"), Subsampling2d(3, name="B")]
    sizes = {"input_shape": (4000, 6, 6), "classes": 4000}
    model = lenet5c.Model(layers, **sizes, seed=1)
    for name, limit in (("A", 2.4 / 4), ("B", 2.4 / 9)):
        weight = model.parameters[f"{name}.weight"]
        assert 0.99 * limit < np.abs(weight).max() <= limit
        assert weight.std() == pytest.approx(limit / math.sqrt(3), rel=0.05)
        assert (model.parameters[f"{name}.bias"] == 0).all()


def test_subsampling_costs_a_multiply_add_for_each_output():
    assert Subsampling2d(2).multiply_adds((6, 28, 28)) == 6 * 14 * 14
    shapes = Subsampling2d(2).parameter_shapes((6, 28, 28))
    assert shapes == {"weight": (6,), "bias": (6,)}


def test_an_unknown_initialisation_is_refused():
    weight, generator = np.zeros((2, 2), np.float32), np.random.default_rng(0)
    expected = "init: expected 'glorot', 'he', 'lecun' or 'lecun-1998', got 'xavier'"
    with pytest.raises(ValueError, match=expected):
        initialise(weight, "xavier", generator)


def test_the_generator_decides_the_weights():
    def of(seed):
        weight = np.empty((3, 4), np.float32)
        initialise(weight, "he", np.random.default_rng(seed))
        return weight

    np.testing.assert_array_equal(of(1), of(1))
    assert not np.array_equal(of(1), of(2))


def test_a_slope_that_is_one_in_float32_is_refused():
    assert LeakyReLU(0.9999999).slope == 0.9999999
    with pytest.raises(ValueError, match="slope: expected 0 <= x < 1 in float32"):
        LeakyReLU(0.99999999)


@pytest.mark.parametrize(
    ("codes", "error", "said"),
    [
        ("ab", TypeError, "codes: expected numbers"),
        ([["1", "2"], ["3", "4"]], TypeError, "codes: expected numbers, got <U1"),
        ([[1j], [2]], TypeError, "codes: expected numbers, got complex128"),
        ([1, 2], ValueError, r"codes: expected the shape \(2, inputs\), got \(2,\)"),
        ([[1, 2]], ValueError, r"codes: expected the shape .* got \(1, 2\)"),
        ([[], []], ValueError, r"codes: expected the shape .* got \(2, 0\)"),
        ([[1], [np.nan]], ValueError, "codes: expected finite numbers"),
        ([[1], [1e39]], ValueError, "codes: expected finite numbers"),  # in float32
    ],
)
def test_codes_that_are_none_are_refused(codes, error, said):
    with pytest.raises(error, match=said):
        RadialBasis(2, codes=codes)


def test_codes_of_another_length_than_the_input_are_refused():
    layers = [RadialBasis(2, codes=np.zeros((2, 3)), name="OUT")]
    with pytest.raises(ValueError, match=r"^OUT: codes: expected 4 numbers .* got 3"):
        lenet5c.Model(layers, input_shape=(4, 1, 1), classes=2)


def test_codes_given_are_the_buffer_and_nobody_changes_the_layer():
    codes = np.arange(8.0).reshape(2, 4)
    layer = RadialBasis(2, codes=codes)
    codes[:] = 0
    model = lenet5c.Model([layer], input_shape=(2, 1, 2), classes=2)
    expected = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(model.buffers["radial_basis_1.codes"], expected)
    np.testing.assert_array_equal(layer.codes, expected)
    assert repr(layer) == "RadialBasis(outputs=2, name=None)"


def test_codes_at_random_are_signs_of_the_seed():
    def codes(seed):
        layers = [RadialBasis(40, name="R")]
        shape = (250, 1, 1)
        model = lenet5c.Model(layers, input_shape=shape, classes=40, seed=seed)
        return model.buffers["R.codes"].copy()

    found = codes(3)
    assert set(np.unique(found)) == {-1, 1}
    assert abs(found.mean()) < 0.05  # five deviations of 10,000 fair signs
    np.testing.assert_array_equal(found, codes(3))
    assert 0.4 < (found != codes(4)).mean() < 0.6


def test_more_codes_than_a_machine_could_hold_are_refused_before_they_are_made():
    with pytest.raises(ValueError, match="expected at most 268435456 parameters and"):
        lenet5c.Model(
            [RadialBasis(1 << 18)], input_shape=(1 << 11, 1, 1), classes=1 << 18
        )


@pytest.mark.parametrize("layer", [Dropout(0.2), Flatten()])
def test_a_model_computes_something_in_prediction(layer):
    with pytest.raises(ValueError, match="at least one layer that computes"):
        lenet5c.Model([layer], input_shape=(3, 1, 1), classes=3)
