"""ONNX files: what ONNX Runtime makes of those written, and what comes back."""

import copy
import json
import os
import sys
import warnings

import numpy as np
import pytest

import lenet5c
from lenet5c import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    FileFormatError,
    Flatten,
    MaxPool2d,
    ReLU,
    Residual,
    ScaledTanh,
    Subsampling2d,
    Tanh,
)
from lenet5c.convert.onnx import from_onnx
from lenet5c.files.onnx_out import OPSET, onnx_bytes
from lenet5c.layers.listed import MAX_NESTED

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NETWORKS = {
    "lenet5": ((1, 32, 32), lenet5c.lenet5().layers),
    "cnn3": ((1, 28, 28), lenet5c.cnn3().layers),
    "mlp": ((1, 28, 28), lenet5c.mlp().layers),
    "strides, padding, oblong kernels, three channels": (
        (3, 13, 9),
        [
            Conv2d(5, (3, 2), stride=2, padding=2),
            ReLU(),
            MaxPool2d(3, 1),
            Conv2d(4, 1, padding=1),
            Tanh(),
            AvgPool2d(2, 3),
            Dense(10),
        ],
    ),
    "dropout, two activations, none between": (
        (2, 6, 7),
        [
            Tanh(),
            Conv2d(3, 2),
            Dropout(0.4),
            Dense(8),
            Dense(9),
            Tanh(),
            ReLU(),
            Dense(10),
        ],
    ),
    "maps after a flat one": (
        (1, 5, 5),
        [Conv2d(4, 3), Flatten(), Conv2d(6, 1), AvgPool2d(1), Conv2d(10, 1), Tanh()],
    ),
    "logits that are a map, without a parameter": ((10, 4, 4), [AvgPool2d(4)]),
    "logits that are a map of several places": (
        (5, 4, 4),
        [MaxPool2d(2, 2), Dropout(0.5), Conv2d(5, (2, 1))],
    ),
    "scaled tanh in all places": (
        (2, 6, 6),
        [
            *(ScaledTanh(), Conv2d(3, 3), ScaledTanh(), AvgPool2d(2)),
            *(ScaledTanh(), ScaledTanh(), Residual([ScaledTanh()]), Tanh()),
            *(Dense(10), ScaledTanh()),
        ],
    ),
    "subsampling": (
        (1, 12, 12),
        [
            *(Subsampling2d(1), Conv2d(3, 3), ScaledTanh(), Subsampling2d(2)),
            *(ScaledTanh(), Subsampling2d(2, 1), Conv2d(1, 1), Conv2d(1, 1)),
            *(Subsampling2d(1), Dense(10)),
        ],
    ),
    "names of other tensors": (
        (1, 6, 6),
        [
            Conv2d(2, 3, name="images"),
            Tanh(name="images.scale"),
            ReLU(name="logits"),
            AvgPool2d(2, name="A.weight"),
            Dense(10, name="A"),
            Tanh(name="probabilities"),
        ],
    ),
}


def network(name, seed=0):
    """One of NETWORKS, with biases that are not zero and images smaller than it."""
    shape, layers = NETWORKS[name]
    model = lenet5c.Model(layers, input_shape=shape, seed=seed)
    rng = np.random.default_rng(seed)
    model.parameter_vector += rng.normal(0, 0.05, model.parameter_count)
    source = (max(1, shape[1] - 3), shape[2])
    images = rng.integers(0, 256, (7, shape[0], *source), dtype=np.uint8)
    stage = lenet5c.data.images.InputStage.of(images)
    model.set_input(stage, source, model.classes)
    return model, images


def run(content, images):
    """What ONNX Runtime makes of the images: all outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_gives_what_the_model_gives(name):
    model, images = network(name)
    floats = images.astype(np.float32) / 100 - 1
    if model.stage.pixels == "bytes":
        floats = images.astype(np.float32) / 255
    for dtype, pixels in (("uint8", images), ("float32", floats)):
        content = onnx_bytes(model, dtype)
        logits, probabilities = run(content, pixels)
        largest = max(1, np.abs(logits).max())
        assert np.abs(logits - model.forward(pixels)).max() < 1e-5 * largest
        assert np.abs(probabilities - model.predict_proba(pixels)).max() < 1e-5
        one = run(content, pixels[:1])[0]
        np.testing.assert_allclose(one, logits[:1], atol=1e-6)


def test_onnx_runtime_classifies_mnist_as_the_model_does(mnist, mnist_model, tmp_path):
    mnist_model.export_onnx(tmp_path / "mnist.onnx")
    images = mnist.test.images
    _, probabilities = run((tmp_path / "mnist.onnx").read_bytes(), images[:, None])
    expected = mnist_model.predict_proba(images)
    assert len(images) == 10_000
    assert np.abs(probabilities - expected).max() < 1e-5
    assert (probabilities.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_is_written_comes_back_bit_for_bit(name, dtype, tmp_path):
    model, images = network(name)
    labels = np.array([f'no. {k}\n"é' for k in range(10)])
    model.set_input(model.stage, model.source, labels)
    model.export_onnx(tmp_path / "a.onnx", dtype=dtype)
    found = from_onnx(tmp_path / "a.onnx")
    assert found.layers == tuple(
        layer for layer in model.layers if not isinstance(layer, Dropout)
    )
    assert found.parameter_vector.tobytes() == model.parameter_vector.tobytes()
    assert (found.stage, found.source) == (model.stage, model.source)
    assert (found.input_shape, found.fitted) == (model.input_shape, True)
    np.testing.assert_array_equal(found.classes, model.classes)
    np.testing.assert_array_equal(found.predict(images), model.predict(images))


@pytest.mark.parametrize("data", ["digits", '/home/数字 "x".npz', None])
def test_what_the_model_was_trained_on_comes_back(
    data, small, small_images, labels, tmp_path
):
    small.fit(small_images / 51 - 2, labels, epochs=1, threads=1)
    small.trained_on = data
    small.export_onnx(tmp_path / "a.onnx")
    found = from_onnx(tmp_path / "a.onnx")
    assert found.trained_on == data
    assert found.stage.pixels == small.stage.pixels != "bytes"


def test_a_name_of_data_that_no_text_can_hold_is_left_out(small):
    small.trained_on = "\udc80"
    found = onnx.load_model_from_string(onnx_bytes(small))
    metadata = {entry.key: entry.value for entry in found.metadata_props}
    assert metadata["trained_on"] == "null"


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="expected a regular file, got a pipe"):
        from_onnx(tmp_path / "pipe")


def test_an_untrained_model_comes_back_untrained(small, tmp_path):
    small.export_onnx(tmp_path / "a.onnx")
    assert not from_onnx(tmp_path / "a.onnx").fitted


def test_the_file_says_what_it_is(small, small_images, labels):
    small.fit(small_images, labels, epochs=1, threads=1)
    found = onnx.load_model_from_string(onnx_bytes(small))
    onnx.checker.check_model(found, full_check=True)
    assert (found.ir_version, found.opset_import[0].version) == (8, OPSET)
    assert (found.producer_name, found.producer_version) == (
        "lenet5c",
        lenet5c.__version__,
    )
    assert "uint8 (N, 1, 12, 12)" in found.doc_string
    metadata = {entry.key: entry.value for entry in found.metadata_props}
    assert metadata["classes"] == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    assert metadata["version"] == lenet5c.__version__
    assert json.loads(metadata["input_stage"])["pixels"] == "bytes"
    assert metadata["trained_on"] == "null"
    assert [node.name for node in found.graph.node if node.name] == [
        layer.name for layer in small.layers
    ]
    names = {tensor.name for tensor in found.graph.initializer}
    assert small.parameters.keys() <= names


def test_floats_are_the_input_of_a_model_trained_on_floats(small, small_images, labels):
    assert b"uint8" in onnx_bytes(small)
    small.fit(small_images / 255, labels, epochs=1, threads=1)
    assert b"uint8" not in onnx_bytes(small)
    floats = (small_images[:, None] / 255).astype(np.float32)
    _, probabilities = run(onnx_bytes(small), floats)
    np.testing.assert_allclose(probabilities, small.predict_proba(floats), atol=1e-5)


def test_what_cannot_be_written_leaves_the_old_file(small, tmp_path):
    path = tmp_path / "a.onnx"
    small.export_onnx(path)
    old = path.read_bytes()
    with pytest.raises(ValueError, match="dtype: expected 'uint8', 'float32' or None"):
        small.export_onnx(path, dtype="int8")
    with pytest.raises(OSError, match="missing"):
        small.export_onnx(tmp_path / "missing" / "a.onnx")
    small.parameters["A.bias"][0] = np.nan
    with pytest.raises(ValueError, match="expected finite parameters"):
        small.export_onnx(path)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (old, ["a.onnx"])


def test_the_same_model_is_the_same_file(small):
    assert onnx_bytes(small) == onnx_bytes(copy.deepcopy(small))


def test_without_onnx_the_extra_is_named(small, tmp_path, monkeypatch):
    small.export_onnx(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    for use in (small.export_onnx, from_onnx):
        with pytest.raises(ImportError, match=r"pip install 'lenet5c\[onnx\]'"):
            use(tmp_path / "a.onnx")


RNG = np.random.default_rng(3)


def weights(*shape, dtype=np.float32):
    return RNG.normal(0, 0.4, shape).astype(dtype)


def written(path, *nodes, shape=("N", 2, 6, 6), element=np.float32, opset=18, **parts):
    """An ONNX file of nodes (operator, constants, attributes) in a row, from the input
    x; a node whose first element is a pair reads the constants first."""
    made, constants, tensor = [], [], "x"
    for position, (operator, *rest) in enumerate(nodes):
        values = rest[0] if rest else ()
        attributes = rest[1] if len(rest) > 1 else {}
        names = [f"c{position}.{part}" for part in range(len(values))]
        constants += [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for value, name in zip(values, names, strict=True)
        ]
        reversed_ = operator.startswith("~")
        inputs = [*names, tensor] if reversed_ else [tensor, *names]
        tensor = f"t{position}"
        made.append(
            onnx.helper.make_node(
                operator.lstrip("~"), inputs, [tensor], f"n{position}", **attributes
            )
        )
    elements = onnx.helper.np_dtype_to_tensor_dtype
    outputs = parts.pop("outputs", [tensor])
    sizes = [None] * parts.pop("rank", 2)
    graph = onnx.helper.make_graph(
        made + parts.pop("more", []),
        "g",
        [onnx.helper.make_tensor_value_info("x", elements(np.dtype(element)), shape)],
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)
            for name in outputs
        ],
        constants + parts.pop("tensors", []),
    )
    assert not parts
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8
    )
    onnx.save(model, path)
    return path


CONV = ("Conv", [weights(3, 2, 3, 3), weights(3)])  # 2@6x6 -> 3@4x4
GEMM = ("Gemm", [weights(4, 48), weights(4)], {"transB": 1})
END = (("Flatten",), GEMM)
RESULT = weights(12, 4)
IMPORTED = {
    "conv, tanh, gemm": (CONV, ("Tanh",), *END),
    "conv without bias": (("Conv", CONV[1][:1]), *END),
    "conv that says all": (
        (*CONV, {"group": 1, "dilations": [1, 1], "kernel_shape": [3, 3]}),
        *END,
    ),
    "conv with padding and stride": (
        (*CONV, {"pads": [2, 2, 2, 2], "strides": [2, 2]}),
        ("Relu",),
        ("Flatten",),
        ("Gemm", [weights(4, 48), weights(4)], {"transB": 1}),
    ),
    "conv of the same size": (
        (*CONV, {"auto_pad": "SAME_UPPER"}),
        ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [1, 1]}),
        *END,
    ),
    "conv without padding": ((*CONV, {"auto_pad": "VALID"}), *END),
    "oblong conv": (
        ("Conv", [weights(3, 2, 1, 4)]),
        ("Flatten",),
        ("Gemm", [weights(54, 4)]),
    ),
    "gemm with one number as bias": (
        CONV,
        ("Flatten",),
        ("Gemm", [weights(48, 4), weights(1)]),
    ),
    "matmul and add": (
        CONV,
        ("Flatten",),
        ("MatMul", [weights(48, 4)]),
        ("Add", [weights(4)]),
    ),
    "add, then matmul's output": (
        CONV,
        ("Flatten",),
        ("MatMul", [weights(48, 4)]),
        ("~Add", [weights(1, 4)]),
    ),
    "matmul alone": (CONV, ("Flatten",), ("MatMul", [weights(48, 4)]), ("Relu",)),
    "pooling": (
        ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [1, 1]}),
        ("MaxPool", [], {"kernel_shape": [3, 3], "ceil_mode": 1, "strides": [2, 2]}),
        ("Flatten",),
        ("Gemm", [weights(8, 4)]),
    ),
    "dilation": ((*CONV, {"dilations": [2, 2]}), ("Flatten",), ("Gemm", [RESULT])),
    "groups": (
        ("Conv", [weights(6, 1, 3, 3), weights(6)], {"group": 2}),
        ("Flatten",),
        ("Gemm", [weights(96, 4)]),
    ),
    "padding of one side": (
        (*CONV, {"pads": [0, 1, 2, 1], "strides": [2, 2]}),
        ("Flatten",),
        ("Gemm", [weights(27, 4)]),
    ),
    "conv of the same size with a stride": (
        (*CONV, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Flatten",),
        ("Gemm", [weights(27, 4)]),
    ),
    "padding in front of layers": (
        CONV,
        ("Pad", [np.array([0, 0, 0, 1, 0, 0, 1, 0])]),
        ("Conv", [weights(2, 3, 3, 3)], {"pads": [1, 1, 0, 0]}),
        ("Relu",),
        ("Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 1])]),
        ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ("Flatten",),
        ("Gemm", [weights(8, 4)]),
    ),
    "padded pooling": (
        CONV,
        ("MaxPool", [], {"kernel_shape": [2, 2], "pads": [1] * 4, "strides": [2, 2]}),
        ("Flatten",),
        ("Gemm", [weights(27, 4)]),
    ),
    "distances from codes": (
        CONV,
        ("GlobalAveragePool",),
        ("Flatten",),
        ("Unsqueeze", [np.array([1])]),
        ("Sub", [weights(4, 3)]),
        ("Pow", [np.float32(2)]),
        ("ReduceSum", [np.array([-1])], {"keepdims": 0}),
        ("Neg",),
    ),
    "a bias more": (CONV, ("Add", [weights(3, 1, 1)]), *END, ("Add", [weights(4)])),
    "images shifted as floats": (("Add", [weights(2, 1, 1)]), CONV, *END),
    "a scale after a layer": (CONV, ("Mul", [np.float32(-2)]), *END),
    "casts between layers": (CONV, ("Cast", [], {"to": 1}), *END),
    "global pooling": (CONV, ("GlobalAveragePool",), ("Flatten", [], {"axis": -3})),
    "logits that are a map": (
        CONV,
        ("GlobalAveragePool",),
        ("Softmax", [], {"axis": 1}),
    ),
    "reshape with 0": (CONV, ("Reshape", [np.array([0, -1])]), GEMM),
    "reshape with -1": (CONV, ("Reshape", [np.array([-1, 48])]), GEMM),
    "reshape that keeps": (CONV, ("Reshape", [np.array([0, 0, 4, -1])]), *END),
    "reshape to a flat map": (
        CONV,
        ("Reshape", [np.array([-1, 48, 1, 1])]),
        ("Conv", [weights(4, 48, 1, 1)]),
        ("Squeeze", [np.array([2, -1])]),
        ("Unsqueeze", [np.array([-1, 2])]),
        ("Reshape", [np.array([-1, 4])]),
    ),
    "dropout and identity": (CONV, ("Identity",), ("Dropout", [np.float32(0.3)]), *END),
    "softmax": (CONV, *END, ("Softmax", [], {"axis": -1}), ("Identity",)),
    "softmax of a sigmoid": (CONV, *END, ("Sigmoid",), ("Softmax", [], {"axis": -1})),
    "log-softmax": (CONV, *END, ("LogSoftmax", [], {"axis": 1})),
    "padded images": (
        ("Pad", [np.array([0, 0, 1, 0, 0, 0, 1, 1]), np.float32(0.5)]),
        ("Conv", [weights(3, 2, 5, 4)]),
        ("Flatten",),
        ("Gemm", [weights(48, 4)]),
    ),
}


def scores(values):
    """Logits, probabilities and their logarithms, all made comparable."""
    values = values.reshape(len(values), -1)
    return values - values.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("name", IMPORTED)
def test_a_file_from_elsewhere_becomes_a_model(name, tmp_path):
    rank = 4 if "map" in name and "Reshape" not in IMPORTED[name][-1] else 2
    path = written(tmp_path / "a.onnx", *IMPORTED[name], rank=rank)
    images = RNG.normal(0, 1, (5, 2, 6, 6)).astype(np.float32)
    model = from_onnx(path)
    (expected,) = run(path.read_bytes(), images)
    if "Softmax" in [node[0] for node in IMPORTED[name]]:
        expected = np.log(expected)
    logits = model.forward(images)
    assert np.ptp(logits) > 0.01
    assert np.abs(scores(logits) - scores(expected)).max() < 1e-5
    model.save(tmp_path / "a.lenet5c")


CAST = ("Cast", [], {"to": 1})
STAGES = {
    "scaled": (CAST, ("Mul", [np.float32(1 / 255)])),
    "normalised": (
        CAST,
        ("Div", [np.float32([255])]),
        ("Sub", [np.float32(0.13)]),
        ("Div", [np.full((1, 1, 1, 1), 0.3, np.float32)]),
    ),
    "multiplied from the left, shifted": (
        CAST,
        ("~Mul", [np.float32(0.02)]),
        ("~Add", [np.float32(-1)]),
    ),
    "as they are": (CAST,),
    "cast to float64": (("Cast", [], {"to": 11}), ("Add", [np.float64(-3)]), CAST),
}


@pytest.mark.parametrize("name", STAGES)
def test_what_is_done_to_bytes_comes_in(name, tmp_path):
    padded = ("Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(-0.5)])
    end = (("Tanh",), ("Flatten",), ("Gemm", [weights(128, 4)]))
    path = written(tmp_path / "a.onnx", *STAGES[name], padded, *end, element=np.uint8)
    images = RNG.integers(0, 256, (5, 2, 6, 6), dtype=np.uint8)
    model = from_onnx(path)
    assert (model.source, model.input_shape) == ((6, 6), (2, 8, 8))
    (expected,) = run(path.read_bytes(), images)
    np.testing.assert_allclose(model.forward(images), expected, atol=2e-5)
    with pytest.raises(FileFormatError, match="mean, deviation: expected none"):
        from_onnx(path, mean=0.5)


def test_bytes_are_normalised_as_the_arguments_say(tmp_path):
    path = written(tmp_path / "a.onnx", CONV, *END)
    images = RNG.integers(0, 256, (5, 2, 6, 6), dtype=np.uint8)
    model = from_onnx(path, mean=0.1307, deviation=0.3081)
    floats = ((images / 255 - 0.1307) / 0.3081).astype(np.float32)
    (expected,) = run(path.read_bytes(), floats)
    np.testing.assert_allclose(model.forward(images), expected, atol=1e-5)
    np.testing.assert_allclose(model.forward(floats), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"^deviation: expected a positive"):
        from_onnx(path, deviation=0)
    with pytest.raises(ValueError, match=r"^input_shape: expected"):
        from_onnx(path, input_shape=(2, 6))


@pytest.mark.parametrize("shape", [("N", 72), (None, None), (3, "C", "H", "W")])
def test_sizes_that_the_file_does_not_say_are_asked_for(shape, tmp_path):
    keep = () if len(shape) == 4 else (("Reshape", [np.array([-1, 2, 6, 6])]),)
    path = written(tmp_path / "a.onnx", *keep, CONV, *END, shape=shape)
    with pytest.raises(FileFormatError, match=r"input_shape=\(C, H, W\)"):
        from_onnx(path)
    model = from_onnx(path, input_shape=(2, 6, 6))
    images = RNG.normal(0, 1, (3, 2, 6, 6)).astype(np.float32)
    (expected,) = run(
        path.read_bytes(), images.reshape(3, 72) if len(shape) == 2 else images
    )
    np.testing.assert_allclose(model.forward(images), expected, atol=1e-5)


def test_layers_are_called_as_their_weights(tmp_path):
    tensors = [
        onnx.numpy_helper.from_array(value, name)
        for value, name in (
            (CONV[1][0], "features.0.weight"),
            (weights(4, 48), "conv2d_1.weight"),
        )
    ]
    more = [
        onnx.helper.make_node("Conv", ["x", "features.0.weight"], ["a"], "one"),
        onnx.helper.make_node("Flatten", ["a"], ["b"], "two"),
        onnx.helper.make_node("Gemm", ["b", "conv2d_1.weight"], ["y"], transB=1),
    ]
    path = written(tmp_path / "a.onnx", more=more, tensors=tensors, outputs=["y"])
    model = from_onnx(path)
    assert [layer.name for layer in model.layers] == [
        "features.0",
        "flatten_1",
        "dense_1",
    ]
    np.testing.assert_array_equal(model.parameters["features.0.weight"], CONV[1][0])


SAME = ("Conv", [weights(3, 3, 3, 3)], {"pads": [1, 1, 1, 1]})
POOL = ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]})
SUB, POW = ("Sub", [weights(4, 72)]), ("Pow", [np.float32(2)])
SUM = ("ReduceSum", [np.array([2])], {"keepdims": 0})
FLAT = ("Gemm", [weights(4, 108), weights(4)], {"transB": 1})
BROKEN = {
    "groups of other channels": (
        (("Conv", [weights(2, 3, 3, 3)], {"group": 2}),),
        "node 'n0' .Conv.: expected weights of 2 channels in groups, got 2 of 3",
    ),
    "two strides": (((*CONV, {"strides": [1, 2]}),), "strides: expected equal numbers"),
    "padded average pooling": (
        (("AveragePool", [], {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}),),
        "average pooling has no padding: train without it",
    ),
    "maximum pooling that is padded on two sides": (
        (("MaxPool", [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}),),
        "train with the same padding on all sides",
    ),
    "oblong pooling": (
        (("MaxPool", [], {"kernel_shape": [2, 3]}),),
        "kernel_shape: expected equal numbers",
    ),
    "pooling windows that stick out": (
        (("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),),
        "expected ceil_mode 0",
    ),
    "a window larger than the map": (
        (("AveragePool", [], {"kernel_shape": [9, 9]}),),
        "window 9x9 is larger than its input 6x6",
    ),
    "a stride of 0": (
        (("AveragePool", [], {"kernel_shape": [2, 2], "strides": [0, 0]}),),
        "n0",
    ),
    "a transposed gemm": (
        (("Flatten",), ("Gemm", [weights(72, 4)], {"transA": 1})),
        "transA: expected 0",
    ),
    "dense layer of a map": (
        (("MatMul", [weights(6, 4)]),),
        r"expected \(N, features\)",
    ),
    "weights of another layer": (
        (CONV, ("Flatten",), ("Gemm", [weights(47, 4)])),
        r"expected the weight \(4, 48\), got \(4, 47\)",
    ),
    "bias of another layer": (
        (("Conv", [weights(3, 2, 3, 3), weights(2)]),),
        r"expected the bias \(3,\), got \(2,\)",
    ),
    "float64 that would be rounded": (
        (("Flatten",), ("Gemm", [weights(72, 4, dtype=np.float64)])),
        "weight: expected values that float32 holds exactly, got float64",
    ),
    "weights that are not finite": (
        (("Flatten",), ("Gemm", [np.full((72, 4), np.nan, np.float32)])),
        "weight: expected finite float32",
    ),
    "a softmax in the middle": (
        (*END[:1], ("Gemm", [weights(72, 4)]), ("Softmax",), ("Relu",)),
        "expected nothing after a Softmax",
    ),
    "a softmax of columns": ((CONV, ("Softmax",)), "expected the axis 1"),
    "a scale of each pixel": (
        (("Mul", [weights(2, 6, 6)]), CONV),
        "expected one number, or one for each of the 2 channels",
    ),
    "a constant minus nothing that is 0": (
        (("Div", [np.float32(0)]), CONV),
        "expected a divisor that is not 0",
    ),
    "one over a map": ((("~Div", [np.float32(1)]), CONV), "got 1 / x"),
    "another map": (
        (("Reshape", [np.array([0, 2, 9, 4])]),),
        r"expected a map \(2, 6, 6\) or a flat one",
    ),
    "a batch that is not kept": (
        (("Reshape", [np.array([1, -1])]),),
        r"expected a shape \(N, ...\) of 72 numbers an image",
    ),
    "two images in one": ((("Reshape", [np.array([-1, 144])]),), "of 72 numbers"),
    "flattened from another axis": (
        (("Flatten", [], {"axis": 2}),),
        "axis: expected 1",
    ),
    "squeezed images": ((("Squeeze", [np.array([0])]),), "axes: expected some from 1"),
    "rows and columns exchanged": (
        (("Transpose", [], {"perm": [0, 1, 3, 2]}),),
        "perm: expected channels to become last",
    ),
    "images that do not stay first": (
        (("Transpose",),),
        "perm: expected images to stay first",
    ),
    "channels last at a convolution": (
        (("Transpose", [], {"perm": [0, 2, 3, 1]}), CONV),
        r"expected a map \(N, C, H, W\) of the shape \('N', 2, 6, 6\), got",
    ),
    "channels last at the end": (
        (CONV, ("Transpose", [], {"perm": [0, 2, 3, 1]}), ("Flatten",)),
        r"expected the output \(N, classes\)",
    ),
    "the mean of columns": (
        (CONV, ("ReduceMean", [np.array([3])]), *END),
        r"axes: expected \[2, 3\], rows and columns, got \[3\]",
    ),
    "a leaky ReLU that is none": (
        (CONV, ("LeakyRelu", [], {"alpha": 1.5}), *END),
        r"'n1' .LeakyRelu.: slope: expected 0 <= x < 1, got 1.5",
    ),
    "ReLU6": (
        (CONV, ("Clip", [np.float32(0), np.float32(6)]), *END),
        "train with ReLU in place of ReLU6",
    ),
    "an output that is no class": ((CONV,), r"expected the output \(N, classes\)"),
    "reflected padding": (
        (("Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 1])], {"mode": "reflect"}),),
        "mode: expected b'constant'",
    ),
    "padding in front of nothing that can take it": (
        (CONV, ("Pad", [np.array([0, 0, 0, 0, 0, 0, 2, 2])]), ("Flatten",)),
        "expected a Conv behind padding of 0",
    ),
    "padding that is not zero in front of a convolution": (
        (CONV, ("Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(1)]), SAME),
        "expected a Conv behind padding of 1, or",
    ),
    "padding of zeros in front of a maximum of numbers below": (
        (CONV, ("Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 1])]), POOL),
        "expected a Conv behind padding of 0, or a MaxPool",
    ),
    **{
        name: ((("Flatten",), ("Unsqueeze", [np.array([1])]), *nodes), message)
        for name, nodes, message in (
            (
                "cubes of differences",
                (SUB, ("Pow", [np.float32(3)]), SUM, ("Neg",)),
                r"the exponent: expected \[2\], got \[3.0\]",
            ),
            (
                "a sum over codes",
                (SUB, POW, ("ReduceSum", [np.array([1])], {"keepdims": 0}), ("Neg",)),
                r"axes: expected \[2\], got \[1\]",
            ),
            (
                "a sum that stays a row",
                (SUB, POW, ("ReduceSum", [np.array([-1])]), ("Neg",)),
                "keepdims: expected 0, got 1",
            ),
            (
                "distances that are not negative",
                (SUB, POW, SUM),
                r"expected one number, or one for each of the 72 channels",
            ),
            ("a minus alone", (("Neg",),), r"'n2' .Neg.: expected it in - sum over j"),
        )
    },
    "a sigmoid at the end": (
        (CONV, *END, ("Sigmoid",), ("Dropout",)),
        "expected logits or a Softmax at the end",
    ),
    "no node": ((), "expected"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_model_cannot_express_is_refused_by_name(name, tmp_path):
    nodes, message = BROKEN[name]
    outputs = {} if nodes else {"outputs": ["x"]}
    path = written(tmp_path / "a.onnx", *nodes, **outputs)
    with pytest.raises(FileFormatError, match=message) as refused:
        from_onnx(path)
    assert str(refused.value).startswith(str(path))


def test_bytes_have_to_be_cast(tmp_path):
    for nodes in ([CONV, *END], [("Mul", [np.uint8(2)]), CAST, CONV, *END]):
        path = written(tmp_path / "a.onnx", *nodes, element=np.uint8)
        with pytest.raises(FileFormatError, match=r"expected .*bytes"):
            from_onnx(path)
    path = written(
        tmp_path / "a.onnx",
        CAST,
        ("Mul", [np.float32(-1)]),
        CONV,
        *END,
        element=np.uint8,
    )
    with pytest.raises(FileFormatError, match="a positive number"):
        from_onnx(path)


def graph(path, nodes, tensors, shape=("N", 2, 6, 6), outputs=("y",)):
    """An ONNX file of nodes (operator, inputs, output, attributes) from x to y."""
    made = [
        onnx.helper.make_node(
            operator, inputs.split(), [output], output, **dict(*attributes)
        )
        for operator, inputs, output, *attributes in nodes
    ]
    elements = onnx.TensorProto
    described = onnx.helper.make_graph(
        made,
        "g",
        [onnx.helper.make_tensor_value_info("x", elements.FLOAT, shape)],
        [
            onnx.helper.make_tensor_value_info(name, elements.FLOAT, [None, None])
            for name in outputs
        ],
        [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in tensors.items()
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(described, opset_imports=opsets, ir_version=8)
    onnx.save(model, path)
    return path


THREE = {"pads": [1, 1, 1, 1]}
CHANNELS = {
    "w1": weights(3, 2, 3, 3),
    "b1": weights(3),
    "w2": weights(3, 3, 3, 3),
    "b2": weights(3, 1, 1),
    "w3": weights(3, 2, 1, 1),
    "s": np.array([-1, 108]),
    "m": weights(108, 4),
    "b": weights(4),
    "places": np.array([2, 3]),
    "least": np.float32(0),
    **dict(zip(("n1", "n2", "n3"), weights(3, 3), strict=True)),
    "n4": np.float32([0.5, 1, 2]),
}
NORM = ("BatchNormalization", "t n1 n2 n3 n4", "u", {"epsilon": 1e-3})
CLASSIFIED = (("Reshape", "u s", "f"), ("MatMul", "f m", "g"), ("Add", "g b", "y"))
GRAPHS = {
    "a shortcut, the sum the other way round": (
        ("Conv", "x w1", "a", THREE),
        ("Conv", "a w2", "c", THREE),
        ("Relu", "c", "d"),
        ("Add", "a d", "u"),
        *CLASSIFIED,
    ),
    "two branches with layers, from the images": (
        ("Conv", "x w1 b1", "a", THREE),
        ("Conv", "x w3", "c"),
        ("Tanh", "c", "d"),
        ("Add", "d a", "u"),
        *CLASSIFIED,
    ),
    "a branch inside of a branch, and nodes that nobody needs": (
        ("Conv", "x w1 b1", "a", THREE),
        ("Relu", "a", "dead"),
        ("Conv", "a w2", "c", THREE),
        ("Tanh", "c", "d"),
        ("Add", "c d", "e"),
        ("Relu", "e", "h"),
        ("Add", "h a", "u"),
        *CLASSIFIED,
    ),
    "batch normalisation after a relu": (
        ("Conv", "x w1 b1", "a", THREE),
        ("Relu", "a", "t"),
        NORM,
        *CLASSIFIED,
    ),
    "conv, then a bias of each channel": (
        ("Conv", "x w1", "a", THREE),
        ("Add", "b2 a", "u"),
        *CLASSIFIED,
    ),
    "numbers of channels after a relu": (
        ("Conv", "x w1", "a", THREE),
        ("Relu", "a", "c"),
        ("Mul", "c b2", "d"),
        ("Sub", "b2 d", "u"),
        *CLASSIFIED,
    ),
    "clip without a maximum": (
        ("Conv", "x w1", "a", THREE),
        ("Clip", "a least", "u"),
        *CLASSIFIED,
    ),
    "mean of rows and columns": (
        ("Conv", "x w1", "a"),
        ("ReduceMean", "a places", "y", {"keepdims": 0}),
    ),
    "global maximum": (
        ("Conv", "x w1", "a"),
        ("GlobalMaxPool", "a", "c"),
        ("Flatten", "c", "y"),
    ),
    "channels last and flat": (
        ("Conv", "x w1 b1", "a", THREE),
        ("Tanh", "a", "c"),
        ("Transpose", "c", "u", {"perm": [0, 2, 3, 1]}),
        *CLASSIFIED,
    ),
    "channels last and first again": (
        ("Conv", "x w1 b1", "a", THREE),
        ("Transpose", "a", "c", {"perm": [0, 2, 3, 1]}),
        ("Relu", "c", "d"),
        ("Mul", "d n1", "e"),
        ("Transpose", "e", "u", {"perm": [0, 3, 1, 2]}),
        *CLASSIFIED,
    ),
    "channels last and numbers of features": (
        ("Conv", "x w1 b1", "a", THREE),
        ("Transpose", "a", "u", {"perm": [0, 2, 3, 1]}),
        ("Reshape", "u s", "f"),
        ("Mul", "f features", "h"),
        ("Gemm", "h m b", "y", {"alpha": 0.5, "beta": -2.0}),
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_from_elsewhere_becomes_a_model(name, tmp_path):
    tensors = CHANNELS | {"features": weights(108)}
    used = {part for node in GRAPHS[name] for part in node[1].split()}
    tensors = {key: value for key, value in tensors.items() if key in used}
    path = graph(tmp_path / "a.onnx", GRAPHS[name], tensors)
    images = RNG.normal(0, 1, (5, 2, 6, 6)).astype(np.float32)
    (expected,) = run(path.read_bytes(), images)
    model = from_onnx(path)
    np.testing.assert_allclose(
        model.forward(images), expected.reshape(5, -1), atol=3e-5
    )
    model.save(tmp_path / "a.lenet5c")


def flat_as_keras(tensor, shape_of):
    """How exports of Keras networks flatten: the shape is computed, in int32."""
    return (
        ("Shape", shape_of, "k0"),
        ("Cast", "k0", "k1", {"to": 6}),
        ("Slice", "k1 zero one", "k2"),
        ("Concat", "k2 rest", "k3", {"axis": 0}),
        ("Cast", "k3", "k4", {"to": 7}),
        ("Reshape", f"{tensor} k4", "f"),
    )


def test_a_keras_network_comes_in(tmp_path):
    """Channels last, pixels from 0 to 255, padding of one side, dense weights in the
    order of channels last."""
    tensors = {
        "scale": np.float32(1 / 255),
        "w": weights(4, 3, 3, 3),
        "n": weights(4, 1, 1),
        "zero": np.array([0]),
        "one": np.array([1]),
        "rest": np.array([-1], np.int32),
        "m": weights(100, 6),
        "b": weights(6),
    }
    nodes = (
        ("Mul", "x scale", "x1"),
        ("Transpose", "x1", "x2", {"perm": [0, 3, 1, 2]}),
        ("Conv", "x2 w", "a", {"pads": [0, 0, 1, 1], "strides": [2, 2]}),
        ("Relu", "a", "c"),
        ("Mul", "c n", "d"),
        ("Transpose", "d", "e", {"perm": [0, 2, 3, 1]}),
        *flat_as_keras("e", "e"),
        ("MatMul", "f m", "g"),
        ("Add", "g b", "y"),
    )
    path = graph(tmp_path / "a.onnx", nodes, tensors, ("N", 10, 10, 3))
    images = RNG.integers(0, 256, (5, 10, 10, 3), dtype=np.uint8)
    (expected,) = run(path.read_bytes(), images.astype(np.float32))
    model = from_onnx(path)
    assert model.input_shape == (3, 10, 10)
    for pixels in (images, images.astype(np.float32), np.moveaxis(images, -1, 1)):
        np.testing.assert_allclose(model.forward(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [("N", 6, 6, 1), ("N", 6, 6)])
def test_grey_images_without_an_axis_of_channels_in_front(shape, tmp_path):
    tensors = {"s": np.array([-1, 1, 6, 6]), "w": weights(3, 1, 6, 6)}
    nodes = ("Reshape", "x s", "a"), ("Conv", "a w", "b"), ("Flatten", "b", "y")
    path = graph(tmp_path / "a.onnx", nodes, tensors, shape)
    images = RNG.normal(0, 1, (5, 6, 6)).astype(np.float32)
    (expected,) = run(path.read_bytes(), images.reshape(5, *shape[1:]))
    model = from_onnx(path)
    assert model.input_shape == (1, 6, 6)
    np.testing.assert_allclose(model.forward(images), expected, atol=1e-5)


def test_colour_images_that_are_flattened_channels_last(tmp_path):
    tensors = {"s": np.array([-1, 75]), "m": weights(75, 4)}
    nodes = ("Reshape", "x s", "f"), ("MatMul", "f m", "y")
    path = graph(tmp_path / "a.onnx", nodes, tensors, ("N", 5, 5, 3))
    images = RNG.normal(0, 1, (6, 5, 5, 3)).astype(np.float32)
    (expected,) = run(path.read_bytes(), images)
    model = from_onnx(path)
    assert model.input_shape == (3, 5, 5)
    for pixels in (images, np.moveaxis(images, -1, 1)):
        np.testing.assert_allclose(model.forward(pixels), expected, atol=1e-5)


SUMMED = (("Conv", "x w1", "a", THREE), ("Relu", "a", "c"), ("Tanh", "a", "d"))
GRAPHS_REFUSED = {
    "three paths": (
        (*SUMMED, ("Add", "c d", "e"), ("Add", "e a", "u"), *CLASSIFIED),
        "the paths from 'a' to .*: expected one or two, got 3",
    ),
    "a product of paths": (
        (*SUMMED, ("Mul", "c d", "u"), *CLASSIFIED),
        "node 'u' .Mul.: expected Add where two paths meet; of branches there is",
    ),
    "paths side by side": (
        (*SUMMED, ("Concat", "c d", "e", {"axis": 1}), ("Flatten", "e", "y")),
        "node 'e' .Concat.: expected Add where two paths meet",
    ),
    "a tensor and itself": (
        (SUMMED[0], ("Add", "a a", "u"), *CLASSIFIED),
        "node 'u' .Add.: expected two paths from one tensor",
    ),
    "a sum that is broadcast": (
        (
            *(SUMMED[0], ("GlobalAveragePool", "a", "c"), ("Add", "a c", "u")),
            *CLASSIFIED,
        ),
        "node 'u' .Add.: expected two maps of one shape",
    ),
    "the images added to themselves, by another way": (
        (*SUMMED[:2], ("Conv", "c w2", "e"), ("Flatten", "e", "y")),
        "expected no outputs but those at the end",
    ),
}


@pytest.mark.parametrize("name", GRAPHS_REFUSED)
def test_branches_that_are_no_residual_layer_are_refused(name, tmp_path):
    nodes, message = GRAPHS_REFUSED[name]
    used = {part for node in nodes for part in node[1].split()}
    tensors = {key: value for key, value in CHANNELS.items() if key in used}
    outputs = ("y", "c") if "Flatten" in nodes[-1] and len(nodes) == 4 else ("y",)
    path = graph(tmp_path / "a.onnx", nodes, tensors, outputs=outputs)
    with pytest.raises(FileFormatError, match=message):
        from_onnx(path)


def test_residual_layers_inside_of_each_other_have_a_limit(tmp_path):
    """As in a model file."""
    depth = MAX_NESTED + 1
    nodes = [("Tanh", f"t{k} ".replace("t0", "x"), f"t{k + 1}") for k in range(depth)]
    tensor = f"t{depth}"
    for k in reversed(range(depth)):
        nodes.append(("Add", f"{tensor} t{k}".replace("t0", "x"), f"s{k}"))
        tensor = f"s{k}"
    nodes.append(("Flatten", tensor, "y"))
    with pytest.raises(FileFormatError, match="expected 8 levels at most"):
        from_onnx(graph(tmp_path / "a.onnx", nodes, {}))


def test_mean_and_deviation_of_each_channel(tmp_path):
    """Also in front of a convolution that pads after normalisation."""
    path = written(tmp_path / "a.onnx", (*CONV, THREE), ("Tanh",), ("Flatten",), FLAT)
    mean, deviation = (0.4, 0.5), [0.2, 0.3]
    model = from_onnx(path, mean=mean, deviation=deviation)
    images = RNG.integers(0, 256, (5, 2, 6, 6), dtype=np.uint8)
    parts = [np.reshape(each, (2, 1, 1)) for each in (mean, deviation)]
    floats = ((images / 255 - parts[0]) / parts[1]).astype(np.float32)
    (expected,) = run(path.read_bytes(), floats)
    for pixels in (images, images / 255):
        np.testing.assert_allclose(model.forward(pixels), expected, atol=1e-5)
    with pytest.raises(ValueError, match="floats from 0 to 1"):
        model.forward(floats)
    again = from_onnx(path, mean=(0.4, 0.4), deviation=0.2)
    assert again.stage == from_onnx(path, mean=0.4, deviation=0.2).stage
    with pytest.raises(ValueError, match="one for each of the 2 channels"):
        from_onnx(path, mean=(0.1, 0.2, 0.3))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, "bfloat16"])
def test_weights_of_other_floats_come_in_exactly(dtype, tmp_path):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    exact = (
        weights(48, 4)
        .astype(np.float16 if dtype == np.float64 else dtype)
        .astype(dtype)
    )
    try:
        path = written(tmp_path / "a.onnx", CONV, ("Flatten",), ("Gemm", [exact]))
    except RuntimeError as error:
        pytest.skip(f"this onnx cannot write them: {error}")
    found = from_onnx(path).parameters["dense_1.weight"]
    np.testing.assert_array_equal(found, exact.T.astype(np.float32))


def changed(path, change):
    """The file with something changed in its protocol buffer."""
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_of_lenet5c_has_to_agree_with_itself(small, tmp_path):
    def scaled(model):
        tensor = next(t for t in model.graph.initializer if t.name == "images.scale")
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.5), tensor.name))

    def without_classes(model):
        del model.metadata_props[1]

    def fewer_classes(model):
        model.metadata_props[1].value = "[1, 2]"

    for change, message in (
        (scaled, "input_stage: expected what the graph does"),
        (without_classes, "classes"),
        (fewer_classes, "classes: expected 10 labels, got 2"),
    ):
        small.export_onnx(tmp_path / "a.onnx")
        assert onnx.load(tmp_path / "a.onnx").metadata_props[1].key == "classes"
        with pytest.raises(FileFormatError, match=message):
            from_onnx(changed(tmp_path / "a.onnx", change))


def test_tensors_may_be_in_a_file_beside_it(tmp_path):
    path = written(tmp_path / "a.onnx", CONV, *END)
    expected = from_onnx(path)
    model = onnx.load(path)
    onnx.save(
        model, path, save_as_external_data=True, location="a.data", size_threshold=0
    )
    assert (tmp_path / "a.data").exists()
    found = from_onnx(path)
    np.testing.assert_array_equal(found.parameter_vector, expected.parameter_vector)


@pytest.mark.parametrize(
    "location", ["../b.data", "/etc/hostname", "sub/a.data", "", ".."]
)
def test_tensors_in_other_folders_are_refused(location, tmp_path):
    path = written(tmp_path / "a.onnx", CONV, *END)
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="a.data",
        size_threshold=0,
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.data").write_bytes((tmp_path / "a.data").read_bytes())

    def elsewhere(model):
        model.graph.initializer[0].external_data[0].value = location

    model = onnx.load(path, load_external_data=False)
    elsewhere(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="a file of the same folder"):
        from_onnx(path)


def test_a_link_to_tensors_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    path = written(tmp_path / "in" / "a.onnx", CONV, *END)
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="a.data",
        size_threshold=0,
    )
    data = tmp_path / "in" / "a.data"
    data.rename(tmp_path / "b.data")
    with pytest.raises(OSError, match=r"a\.data"):
        from_onnx(path)
    data.symlink_to(tmp_path / "b.data")
    with pytest.raises(OSError, match=r"a\.data"):
        from_onnx(path)
    data.unlink()
    data.write_bytes(b"short")
    with pytest.raises(FileFormatError, match="got a file of 5 bytes"):
        from_onnx(path)


def test_a_damaged_file_is_an_error_that_names_it(small, tmp_path):
    path = tmp_path / "a.onnx"
    small.export_onnx(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = read = 0
    for _ in range(300):
        damaged = bytearray(
            content[: rng.integers(len(content) + 1)] if rng.random() < 0.2 else content
        )
        for at in rng.integers(0, max(1, len(damaged)), 3):
            if damaged:
                damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            from_onnx(path)
        except FileFormatError as error:
            refused += str(error).startswith(str(path))
            continue
        read += 1
    assert refused + read == 300
    assert refused > 100
    for nothing in (b"", b"\xff" * 50, b"text\n"):
        path.write_bytes(nothing)
        with pytest.raises(FileFormatError, match=r"a\.onnx"):
            from_onnx(path)
    with pytest.raises(OSError, match="missing"):
        from_onnx(tmp_path / "missing")


def test_shapes_that_grow_are_refused_before_they_are_computed(tmp_path):
    node = onnx.helper.make_node
    more = [node("Concat", ["s", "s"], ["s0"], axis=0)]
    more += [
        node("Concat", [f"s{k}", f"s{k}"], [f"s{k + 1}"], axis=0) for k in range(60)
    ]
    more += [node("Reshape", ["x", "s60"], ["y"])]
    sizes = onnx.numpy_helper.from_array(np.array([1, 2]), "s")
    path = written(tmp_path / "a.onnx", more=more, tensors=[sizes], outputs=["y"])
    with pytest.raises(FileFormatError, match="expected a shape"):
        from_onnx(path)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_an_export_of_pytorch_becomes_a_model(dynamo, dynamic, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")
    network = torch_lenet(torch)
    options = {}
    if dynamic and dynamo:
        options["dynamic_shapes"] = {"x": {0: torch.export.Dim("n")}}
    elif dynamic:
        options["dynamic_axes"] = {"input": {0: "n"}}
    path = tmp_path / "torch.onnx"
    example = torch.zeros(2, 1, 28, 28)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), path, input_names=["input"], dynamo=dynamo, **options
        )
    model = from_onnx(path)
    images = torch.randn(5, 1, 28, 28, generator=torch.manual_seed(1))
    expected = network(images).detach().numpy()
    np.testing.assert_allclose(
        scores(model.forward(images.numpy())), scores(expected), atol=1e-5
    )
    np.testing.assert_array_equal(
        model.parameters["fc1.weight"], network.fc1.weight.detach()
    )


def torch_lenet(torch):
    nn = torch.nn

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(400, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x):
            x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
            x = nn.functional.avg_pool2d(torch.tanh(self.conv2(x)), 2)
            x = x.view(x.size(0), -1)
            x = torch.relu(self.fc2(torch.relu(self.fc1(x))))
            x = nn.functional.dropout(x, training=self.training)
            return torch.log_softmax(self.fc3(x), 1)

    torch.manual_seed(0)
    return LeNet().eval()


@pytest.mark.parametrize("dynamo", [False, True])
def test_distances_from_codes_come_from_pytorch(dynamo, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")
    nn = torch.nn

    class Distances(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("codes", torch.randn(3, 7))

        def forward(self, x):
            return -((x.unsqueeze(1) - self.codes) ** 2).sum(-1)

    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(20, 7), nn.Tanh(), Distances())
    network.eval()
    images, path = torch.randn(5, 1, 4, 5), tmp_path / "torch.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (images,), path, dynamo=dynamo)
    model = from_onnx(path)
    assert isinstance(model.layers[-1], lenet5c.RadialBasis)
    (codes,) = model.buffers.values()
    np.testing.assert_array_equal(codes, network[3].codes)
    expected = network(images).numpy(force=True)
    np.testing.assert_allclose(model.forward(images), expected, rtol=1e-5)
    # and its weights, by their names
    layers = [Flatten(), Dense(7), Tanh(), lenet5c.RadialBasis(3)]
    other = lenet5c.Model(layers, input_shape=(1, 4, 5), classes=3)
    lenet5c.from_torch_state_dict(other, network.state_dict())
    np.testing.assert_allclose(other.forward(images), expected, rtol=1e-5)


def _block(filters: int, stride: int) -> list[lenet5c.layers.Layer]:
    """A residual block that changes the shape, and its activation."""
    return [
        lenet5c.Residual(
            [
                Conv2d(filters, 3, stride=stride, padding=1, bias=False),
                lenet5c.BatchNorm2d(),
                ReLU(),
                lenet5c.Residual(
                    [Conv2d(filters, 3, padding=1)], [lenet5c.BatchNorm2d()]
                ),
            ],
            [Conv2d(filters, 1, stride=stride, bias=False), lenet5c.BatchNorm2d()],
        ),
        ReLU(),
    ]


@pytest.mark.parametrize(
    "layers",
    [
        [
            Conv2d(5, 7, stride=2, padding=3, bias=False),
            lenet5c.BatchNorm2d(),
            ReLU(),
            MaxPool2d(3, 2, padding=1),
            *_block(6, 1),
            *_block(7, 2),
            lenet5c.GlobalAvgPool2d(),
        ],
        [
            lenet5c.BatchNorm2d(),
            lenet5c.Residual([MaxPool2d(3, 1, padding=1)]),
            lenet5c.Residual([Dense(6)], [Flatten(), Dense(6), Flatten()]),
            Dense(5),
            lenet5c.LeakyReLU(0.3),
            lenet5c.Residual([Tanh()]),  # begins with a flat tensor
            lenet5c.Residual([Tanh(), lenet5c.BatchNorm2d()]),
        ],
    ],
)
def test_branches_and_batch_normalisation_run_elsewhere_and_come_back(layers, tmp_path):
    model = lenet5c.Model([*layers, Dense(4)], input_shape=(2, 17, 14), classes=4)
    rng = np.random.default_rng(1)
    for name, value in model.buffers.items():
        value[...] = rng.uniform(-0.5 if name.endswith("mean") else 0.5, 1, value.shape)
    images = rng.normal(size=(5, 2, 17, 14)).astype(np.float32)
    model.export_onnx(tmp_path / "model.onnx", dtype="float32")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(["logits"], {"images": images})
    np.testing.assert_allclose(logits, model.forward(images), rtol=0, atol=1e-5)
    found = from_onnx(tmp_path / "model.onnx")
    assert found.layers == model.folded().layers
    assert found.forward(images).tobytes() == model.folded().forward(images).tobytes()
