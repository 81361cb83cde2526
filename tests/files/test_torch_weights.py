"""Weights of PyTorch networks, taken into models of the same layers."""

import numpy as np
import pytest

import lenet5c
from lenet5c import Conv2d, Dense, Flatten, MaxPool2d, ReLU
from lenet5c.convert.torch import from_torch_state_dict

LENET5 = {
    "conv1": (6, 1, 5, 5),
    "conv2": (16, 6, 5, 5),
    "fc1": (120, 400),
    "fc2": (84, 120),
    "fc3": (10, 84),
}


@pytest.fixture
def state():
    """A state dict of LeNet-5, as arrays."""
    rng = np.random.default_rng(0)
    return {
        f"{prefix}.{part}": rng.normal(0, 0.1, size).astype(np.float32)
        for prefix, shape in LENET5.items()
        for part, size in (("weight", shape), ("bias", shape[:1]))
    }


def refused(model, state, digest, error=ValueError, **options):
    """The message with which these are refused; the model has not changed then."""
    before = digest(model)
    with pytest.raises(error) as found:
        from_torch_state_dict(model, state, **options)
    assert digest(model) == before
    return str(found.value)


def test_the_logits_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, (3, 2), stride=2, bias=False), nn.Tanh(), nn.Flatten()),
        *(nn.Linear(8 * 3 * 4, 20), nn.Dropout(0.3), nn.ReLU(), nn.Linear(20, 4)),
    ).eval()
    model = lenet5c.Model(
        [
            *(Conv2d(6, 5, padding=2), ReLU(), MaxPool2d(2)),
            *(Conv2d(8, (3, 2), stride=2), lenet5c.Tanh(), Flatten()),
            *(Dense(20), lenet5c.Dropout(0.3), ReLU(), Dense(4)),
        ],
        input_shape=(3, 15, 16),
        classes=4,
    )
    found = from_torch_state_dict(
        model, network.state_dict(), mean=0.1307, deviation=0.3081
    )
    assert found is model
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 3, 15, 16), dtype=np.uint8)
    floats = ((images / 255 - 0.1307) / 0.3081).astype(np.float32)
    expected = network(torch.from_numpy(floats)).detach().numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(model.forward(images), expected, atol=1e-5)
    np.testing.assert_allclose(model.forward(floats), expected, atol=1e-5)
    np.testing.assert_array_equal(model.parameters["conv2d_2.bias"], np.zeros(8))


def test_groups_and_zeros_are_tables():
    """A grouped convolution of PyTorch, and one whose weight is zero elsewhere."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 3, 4))
    table = [[0, 5], [1], [2, 3, 4]]
    sparse = Conv2d(3, 4, connections=table)
    layers = [Conv2d(6, 3, connections=[[0, 1]] * 3 + [[2, 3]] * 3), ReLU(), sparse]
    model = lenet5c.Model(layers, input_shape=(4, 6, 6), classes=3)
    with pytest.raises(
        ValueError, match="expected zeros for the channels that conv2d_2"
    ):
        from_torch_state_dict(model, network.state_dict())
    with torch.no_grad():
        read = torch.zeros(3, 6, 1, 1)
        read[sparse.pairs] = 1
        network[2].weight *= read
    from_torch_state_dict(model, network.state_dict())
    images = np.random.default_rng(0).normal(size=(5, 4, 6, 6)).astype(np.float32)
    expected = network(torch.from_numpy(images)).detach().numpy().reshape(5, 3)
    np.testing.assert_allclose(model.forward(images), expected, atol=1e-5)


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_of_another_table_are_refused(groups):
    torch = pytest.importorskip("torch")
    state = torch.nn.Conv2d(4, 8, 3, groups=groups).state_dict()
    table = [[0, 2], [1, 3]] * 4 if groups == 2 else [[3 - f // 2] for f in range(8)]
    layers = [Conv2d(8, 3, connections=table)]
    model = lenet5c.Model(layers, input_shape=(4, 3, 3), classes=8)
    with pytest.raises(ValueError, match="expected weights and biases like"):
        from_torch_state_dict(model, {f"0.{k}": v for k, v in state.items()})


@pytest.mark.parametrize("pads", ["conv", "images"])
def test_lenet5_of_pytorch_is_lenet5(pads):
    """The first convolution pads with zeros, or images were padded with black."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    padding = 2 * (pads == "conv")
    network = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=padding), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh()),
        nn.Linear(84, 10),
    )
    model = from_torch_state_dict(
        lenet5c.lenet5(),
        network.state_dict(),
        mean=0.13,
        deviation=0.31,
        background=0.0 if pads == "conv" else None,
        source=(28, 28),
    )
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    width = 0 if pads == "conv" else 2
    padded = np.pad(images, ((0, 0), (width, width), (width, width)))
    floats = ((padded[:, None] / 255 - 0.13) / 0.31).astype(np.float32)
    expected = network(torch.from_numpy(floats)).detach().numpy()
    np.testing.assert_allclose(model.forward(images), expected, atol=1e-5)
    assert (model.source, model.fitted) == ((28, 28), True)


def test_layers_are_taken_in_order(state):
    model = from_torch_state_dict(lenet5c.lenet5(), state)
    for name, entry in zip(model.parameters, state, strict=True):
        values = state[entry].reshape(model.parameters[name].shape)
        np.testing.assert_array_equal(model.parameters[name], values)
    assert model.stage == lenet5c.data.images.InputStage(0.0, 1.0, 0.0)
    assert model.source == (32, 32)


def test_names_say_another_order(state):
    mixed = dict(reversed(state.items()))
    names = dict(zip(["C1", "C3", "C5", "F6", "OUTPUT"], LENET5, strict=True))
    model = from_torch_state_dict(lenet5c.lenet5(), mixed, names=names)
    np.testing.assert_array_equal(model.parameters["C1.weight"], state["conv1.weight"])
    np.testing.assert_array_equal(model.parameters["F6.bias"], state["fc2.bias"])


def test_a_single_layer_needs_no_prefix():
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    model = lenet5c.Model([Dense(2, name="D")], input_shape=(1, 2, 2), classes=2)
    from_torch_state_dict(model, {"weight": values, "bias": values[0, :2]})
    np.testing.assert_array_equal(model.parameters["D.weight"], values)
    from_torch_state_dict(model, {"weight": values})
    np.testing.assert_array_equal(model.parameters["D.bias"], [0, 0])


def test_a_dense_layer_takes_the_weight_of_a_convolution_over_all():
    values = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    model = lenet5c.Model([Dense(3, name="D")], input_shape=(2, 4, 4), classes=3)
    from_torch_state_dict(model, {"c.weight": values})
    np.testing.assert_array_equal(model.parameters["D.weight"], values.reshape(3, 32))


def test_a_padded_convolution_over_all_is_no_dense_layer(digest):
    layers = [Conv2d(3, 3, padding=1), lenet5c.AvgPool2d(3)]
    model = lenet5c.Model(layers, input_shape=(2, 3, 3), classes=3)
    message = refused(model, {"fc.weight": np.ones((3, 18), np.float32)}, digest)
    assert "(3, 2, 3, 3)" in message


def test_classes_stay(state):
    model = lenet5c.lenet5()
    model.set_input(model.stage, model.source, np.array(list("abcdefghij")))
    from_torch_state_dict(model, state)
    assert model.classes.tolist() == list("abcdefghij")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats_that_float32_holds_come_in_exactly(dtype, state):
    torch = pytest.importorskip("torch")
    tensors = {
        name: torch.from_numpy(value).half().to(getattr(torch, dtype)).requires_grad_()
        for name, value in state.items()
    }
    model = from_torch_state_dict(lenet5c.lenet5(), tensors)
    expected = tensors["fc3.weight"].detach().float().numpy()
    np.testing.assert_array_equal(model.parameters["OUTPUT.weight"], expected)


def test_values_that_would_change_are_refused(state, digest):
    model = lenet5c.lenet5()
    rounded = state | {"fc3.bias": np.full(10, 0.1)}
    message = refused(model, rounded, digest)
    assert "fc3.bias: expected values that float32 holds exactly" in message
    infinite = state | {"fc3.bias": np.full(10, np.inf, np.float32)}
    assert "fc3.bias: expected finite" in refused(model, infinite, digest)
    whole = state | {"fc3.bias": np.zeros(10, np.int8)}
    message = refused(model, whole, digest, TypeError)
    assert "fc3.bias: expected floats, got int8" in message


def test_tensors_without_values_are_refused(state, digest):
    torch = pytest.importorskip("torch")
    for tensor in (torch.zeros(10, device="meta"), torch.zeros(10).to_sparse()):
        message = refused(
            lenet5c.lenet5(), state | {"fc3.bias": tensor}, digest, TypeError
        )
        assert "fc3.bias: expected a dense tensor" in message


@pytest.mark.parametrize(
    "change",
    [
        {"bn.weight": np.ones(6, np.float32)},
        {"conv1.running_mean": np.ones(6, np.float32)},
        {"conv1.weight": np.ones((6, 3, 5, 5), np.float32)},
        {"conv1.bias": np.ones(5, np.float32)},
        {"fc1.weight": np.ones((120, 100, 2, 2), np.float32)},
    ],
)
def test_a_network_of_other_layers_is_refused_with_all_shapes(change, state, digest):
    message = refused(lenet5c.lenet5(), state | change, digest)
    assert "'C1.weight': (6, 1, 5, 5)" in message
    (name,) = change
    assert f"{name!r}: {change[name].shape}" in message
    assert "transposed" not in message


def test_a_missing_layer_is_refused(state, digest):
    del state["fc3.weight"], state["fc3.bias"]
    message = refused(lenet5c.lenet5(), state, digest)
    assert "'OUTPUT.weight': (10, 84)" in message
    assert "'fc2.weight': (84, 120)" in message
    assert "'OUTPUT.weight': (10, 84)" in refused(lenet5c.lenet5(), {}, digest)


def test_a_transposed_weight_is_refused_as_such(state, digest):
    state["fc2.weight"] = state["fc2.weight"].T
    assert "these are transposed" in refused(lenet5c.lenet5(), state, digest)


def test_wrong_arguments_are_refused(state, digest):
    model = lenet5c.lenet5()
    torch_like = type("Module", (), {"state_dict": lambda self: state})()
    assert "state_dict: expected a mapping" in refused(
        model, torch_like, digest, TypeError
    )
    assert "expected weights" in refused(model, {"model": state}, digest)
    assert "names: expected ['C1', 'C3'" in refused(
        model, state, digest, names={"C1": "conv1"}
    )
    wrong = dict.fromkeys(["C1", "C3", "C5", "F6", "OUTPUT"], "conv1")
    assert "expected weights" in refused(model, state, digest, names=wrong)
    assert "deviation: expected a positive" in refused(
        model, state, digest, deviation=0
    )
    assert "mean: expected a number" in refused(
        model, state, digest, TypeError, mean="0.1307"
    )
    assert "mean: expected one number, or one for each of the 1 channels" in refused(
        model, state, digest, mean=(0.1, 0.2)
    )
    assert "source: expected at most (32, 32)" in refused(
        model, state, digest, source=(33, 32)
    )
    with pytest.raises(TypeError, match="model: expected a Model, got dict"):
        from_torch_state_dict(state, state)


MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)


def first_layers(first, torch):
    """The beginning of a network of 3@9x8 images, and of the same one in PyTorch."""
    nn = torch.nn
    return {
        "conv": ([Conv2d(4, 3)], [nn.Conv2d(3, 4, 3)]),
        "dense": ([Flatten(), Dense(5)], [nn.Flatten(), nn.Linear(216, 5)]),
        "black around": ([Conv2d(4, 3)], [nn.Conv2d(3, 4, 3)]),
        "batch norm of the network": (
            [lenet5c.BatchNorm2d(), Conv2d(4, 3, padding=1)],
            [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)],
        ),
        "batch norm in front": (
            [lenet5c.BatchNorm2d(name="normalise"), Conv2d(4, 3, padding=1)],
            [nn.Conv2d(3, 4, 3, padding=1)],
        ),
    }[first]


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize(
    "first",
    [
        *("conv", "dense", "black around"),
        *("batch norm of the network", "batch norm in front"),
    ],
)
def test_mean_and_deviation_of_each_channel(first, by_name):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    ours, theirs = first_layers(first, torch)
    network = nn.Sequential(*theirs, nn.Tanh(), nn.Flatten(), nn.LazyLinear(4))
    network(torch.randn(20, 3, 9, 8) + 1)  # moves running statistics
    black = 2 * (first == "black around")
    model = lenet5c.Model(
        [*ours, lenet5c.Tanh(), Dense(4)],
        input_shape=(3, 9, 8),
        classes=4,
    )
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 9, 8), dtype=np.uint8)
    images[..., :black] = images[..., 8 - black :] = 0
    weighted = [layer.name for layer in model.layers if layer.name != "normalise"]
    weighted = [name for name in weighted if f"{name}.weight" in model.parameters]
    prefixes = [str(k) for k, layer in enumerate(network) if hasattr(layer, "weight")]
    found = from_torch_state_dict(
        model,
        network.state_dict(),
        names=dict(zip(weighted, prefixes, strict=True)) if by_name else None,
        mean=MEAN,
        deviation=list(DEVIATION),
        source=(9, 8 - 2 * black),
    )
    floats = (images / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(
        DEVIATION, (3, 1, 1)
    )
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(floats).float()).numpy()
    images = images[..., black : 8 - black]
    assert np.ptp(expected) > 0.1
    for pixels in (images, images / 255):
        np.testing.assert_allclose(found.forward(pixels), expected, atol=1e-5)
    with pytest.raises(ValueError, match="floats from 0 to 1"):
        found.forward(images / 128)
    assert found.stage.takes_bytes


def test_equal_channels_are_as_one_number(state):
    """Padding then is as it was, and floats are what the network sees."""
    model = from_torch_state_dict(lenet5c.lenet5(), state, mean=(0.5,), deviation=[0.4])
    assert model.stage == lenet5c.data.images.InputStage(0.5, 0.4, -1.25)
    layers = [Conv2d(2, 3, padding=1), Dense(3)]
    colour = lenet5c.Model(layers, input_shape=(3, 4, 4), classes=3)
    from_torch_state_dict(
        colour, {**colour.parameters}, mean=(0.5, 0.5, 0.5), deviation=(0.4, 0.4, 0.4)
    )
    assert colour.stage == lenet5c.data.images.InputStage(0.5, 0.4, -1.25)


def test_zeros_around_normalised_images_need_equal_means(digest):
    """Padding with zeros is the mean of each channel, which no number of all is."""
    layers = [Conv2d(2, 3, padding=1, name="conv"), Dense(3, name="fc")]
    model = lenet5c.Model(layers, input_shape=(3, 4, 4), classes=3)
    state = {name: value.copy() for name, value in model.parameters.items()}
    means = (0.5, 0.4, 0.3)
    message = refused(model, state, digest, mean=means)
    assert "begins with BatchNorm2d(name='normalise') takes them there" in message
    message = refused(model, state, digest, mean=means, background=0.0)
    assert "background: expected None, which is black" in message
    message = refused(model, state, digest, deviation=(0.5, 0, 0.3))
    assert "deviation: expected a positive number" in message
    deviations = (0.5, 0.4, 0.3)
    same = from_torch_state_dict(model, state, mean=0.2, deviation=deviations)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    plain = lenet5c.Model(layers, input_shape=(3, 4, 4), classes=3)
    from_torch_state_dict(plain, state)
    floats = (images / 255 - 0.2) / np.reshape(deviations, (3, 1, 1))
    np.testing.assert_allclose(same.forward(images), plain.forward(floats), atol=1e-5)


@pytest.mark.parametrize("own_names", [True, False])
def test_a_residual_network_with_running_statistics(own_names):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs, filters, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, filters, 1, stride, bias=False),
                nn.BatchNorm2d(filters),
            )

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + self.downsample(x))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(1, 4, 2)
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.block(x).mean(dim=(2, 3)))

    def named(name):
        return {"name": f"block.{name}"} if own_names else {}

    model = lenet5c.Model(
        [
            lenet5c.Residual(
                [
                    lenet5c.Conv2d(
                        4, 3, stride=2, padding=1, bias=False, **named("conv1")
                    ),
                    lenet5c.BatchNorm2d(**named("bn1")),
                    lenet5c.ReLU(),
                    lenet5c.Conv2d(4, 3, padding=1, bias=False, **named("conv2")),
                    lenet5c.BatchNorm2d(**named("bn2")),
                ],
                [
                    lenet5c.Conv2d(4, 1, stride=2, bias=False, **named("downsample.0")),
                    lenet5c.BatchNorm2d(**named("downsample.1")),
                ],
            ),
            lenet5c.ReLU(),
            lenet5c.GlobalAvgPool2d(),
            lenet5c.Dense(3, name="fc" if own_names else None),
        ],
        input_shape=(1, 9, 9),
        classes=3,
    )
    torch.manual_seed(0)
    network = Network()
    images = torch.randn(20, 1, 9, 9)
    network(images)  # moves the running statistics
    lenet5c.from_torch_state_dict(model, network.state_dict())
    with torch.no_grad():
        expected = network.eval()(images).numpy()
    np.testing.assert_allclose(model.forward(images.numpy()), expected, atol=1e-5)


@pytest.mark.parametrize("part", ["weight", "running_mean", "running_var"])
def test_a_missing_statistic_is_refused(part, digest):
    model, state = normalised()
    del state[f"norm.{part}"]
    assert f"'norm.{part}': (2,)" in refused(model, state, digest)


def test_a_negative_variance_is_refused(digest):
    model, state = normalised()
    state["norm.running_var"] = np.array([1, -1], np.float32)
    assert "running_var: expected no negative" in refused(model, state, digest)


def normalised():
    model = lenet5c.Model(
        [lenet5c.BatchNorm2d(name="norm"), lenet5c.Dense(3, name="fc")],
        input_shape=(2, 4, 4),
        classes=3,
    )
    return model, {**model.parameters, **model.buffers}
