"""Words of other libraries and typing errors are answered with ours."""

import copy
import inspect
import pickle
import re
from dataclasses import dataclass

import pytest

import lenet5c
from lenet5c._support import habits
from lenet5c.training import schedules


@habits.explained
def fit(images, labels, *, epochs=1, validation=None, optimizer=None):
    """Fit."""
    return images, labels, epochs


@habits.explained
@dataclass(frozen=True)
class Block:
    filters: int
    kernel_size: int = 3


class Methods:
    @habits.explained
    def save(self, path, *, name="x"):
        return path, name


FUNCTIONS = [
    *(lenet5c.lenet5, lenet5c.mlp, lenet5c.cnn3, lenet5c.resnet18, lenet5c.load),
    *(lenet5c.SGD, lenet5c.AdamW, lenet5c.SDLM, lenet5c.Augment, lenet5c.EarlyStopping),
    *(schedules.Step, schedules.OneCycle, schedules.ReduceOnPlateau),
    *(lenet5c.layers.LAYERS.values()),
    *(lenet5c.Model, lenet5c.Model.fit, lenet5c.Checkpoint),
]


def test_what_is_right_goes_through():
    assert fit(1, labels=2) == (1, 2, 1)
    assert fit(1, 2, epochs=5) == (1, 2, 5)
    assert Block(1, kernel_size=5) == Block(filters=1, kernel_size=5)
    assert Methods().save("a", name="b") == Methods.save(Methods(), path="a", name="b")


def test_functions_and_classes_stay_what_they_were():
    assert (fit.__name__, fit.__doc__) == ("fit", "Fit.")
    assert (
        str(inspect.signature(Block)) == "(filters: int, kernel_size: int = 3) -> None"
    )
    assert list(inspect.signature(lenet5c.lenet5).parameters)[:2] == [
        "classes",
        "channels",
    ]
    assert isinstance(Block, type)
    for value in (lenet5c.lenet5, lenet5c.Conv2d, lenet5c.Conv2d(6, 5)):
        assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(lenet5c.Conv2d(6, 5)) == lenet5c.Conv2d(6, 5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: lenet5c.SGD(lr=0.1),
            "SGD: unknown argument 'lr'; it is called learning_rate here",
        ),
        (
            lambda: fit(1, 2, lr=0.1),
            "fit: unknown argument 'lr'; write "
            "optimizer=lenet5c.SGD(learning_rate=...)",
        ),
        (
            lambda: fit(1, 2, validation_split=0.1),
            "fit: unknown argument 'validation_split'; write validation=0.1",
        ),
        (
            lambda: fit(1, 2, epcohs=3),
            "fit: unknown argument 'epcohs'; did you mean 'epochs'?",
        ),
        (
            lambda: fit(1, 2, qqq=3),
            "fit: unknown argument 'qqq'; there are images, labels, epochs, "
            "validation, optimizer",
        ),
        (
            lambda: fit(x=1, y=2),
            "fit: unknown argument 'x'; it is called images here. "
            "Unknown argument 'y'; it is called labels here",
        ),
        (
            lambda: Block(out_channels=6),
            "Block: unknown argument 'out_channels'; it is called filters here",
        ),
        (
            lambda: Methods().save(filepath="x"),
            "save: unknown argument 'filepath'; it is called path here",
        ),
        (
            lambda: fit(1, 2, 3),
            "fit: expected at most 2 arguments without a name (images, labels), got 3; "
            "by name: epochs=, validation=, optimizer=",
        ),
        (
            lambda: Block(1, 2, 3),
            "Block: expected at most 2 arguments without a name "
            "(filters, kernel_size), got 3",
        ),
        (
            lambda: Methods().save("a", "b"),
            "save: expected at most 1 argument without a name (path), got 2; "
            "by name: name=",
        ),
    ],
)
def test_the_error_says_what_it_is_called_here(call, said):
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lenet5c.SGD, {"l2": "weight_decay", "amsgrad": "leave it away"}),
        (
            lenet5c.AdamW,
            {"betas": "beta1=0.9, beta2=", "epsilon": "eps", "momentum": "beta1"},
        ),
        (
            lenet5c.lenet5,
            {
                **{"num_classes": "classes", "n_classes": "classes"},
                **{"num_labels": "classes", "in_channels": "called channels"},
                **{"input_channels": "called channels", "img_size": "called size"},
                **{"input_shape": "size=28 and channels=1", "bn": "batch_norm"},
                **{"random_state": "seed", "dropout_rate": "dropout"},
                **{"pretrained": "lenet5c.load", "clases": "did you mean 'classes'"},
            },
        ),
        (lenet5c.mlp, {"hidden_layer_sizes": "hidden=100", "n_hidden": "hidden"}),
        (
            lenet5c.Conv2d,
            {
                **{"out_channels": "filters", "num_filters": "filters"},
                **{"in_channels": "the layer before", "strides": "stride"},
                **{"kernel_initializer": "init", "use_bias": "bias"},
                **{"activation": r"Tanh\(\) or ReLU\(\)", "dilation": "not dilated"},
                **{"input_shape": "the layer before", "groups": "connections="},
                **{"kernel_regularizer": "weight_decay", "data_format": "N, C, H, W"},
            },
        ),
        (
            lenet5c.Dense,
            {
                **{"units": "outputs", "out_features": "outputs"},
                **{"in_features": "the layer before", "input_dim": "the layer before"},
                **{"bias": "always has a bias", "activation": "layer of its own"},
            },
        ),
        (lenet5c.MaxPool2d, {"pool_size": "kernel_size", "strides": "stride"}),
        (lenet5c.AvgPool2d, {"padding": "average pooling has no padding"}),
        (lenet5c.BatchNorm2d, {"num_features": "the layer before", "epsilon": "eps"}),
        (lenet5c.Dropout, {"p": "rate", "inplace": "leave it away"}),
        (lenet5c.Augment, {"rotation_range": "rotate", "horizontal_flip": "never"}),
        (
            lenet5c.EarlyStopping,
            {"restore_best_weights": "always kept", "monitor": "validation loss"},
        ),
        (schedules.Step, {"gamma": "factor", "milestones": "epochs="}),
        (schedules.ReduceOnPlateau, {"min_lr": "least", "threshold": "min_delta"}),
    ],
)
def test_words_of_other_libraries(make, words):
    for word, answer in words.items():
        with pytest.raises(TypeError, match=f"unknown argument '{word}'; .*{answer}"):
            make(**{word: 1})


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("Sequential", "lenet5c.Model"),
        ("Linear", "lenet5c.Dense"),
        ("Conv2D", "'Conv2d'"),
        ("MaxPooling2D", "lenet5c.MaxPool2d"),
        ("AveragePooling2D", "lenet5c.AvgPool2d"),
        ("MaxPool2D", "'MaxPool2d'"),
        ("Adam", r"lenet5c.AdamW\(\)"),
        ("CrossEntropyLoss", "usual loss is softmax with cross-entropy"),
        ("DataLoader", r"model.fit\(images, labels, batch_size"),
        ("load_model", r"lenet5c.load\(path\)"),
        ("save_model", r"model.save\(path\)"),
        ("LeNet5", "'lenet5'"),
        ("LeNet", r"lenet5c.lenet5\(\)"),
        ("ResNet18", "'resnet18'"),
        ("BatchNormalization", r"lenet5c.BatchNorm2d\(\)"),
        ("Softplus", "are the activations"),
        ("dataset", "'datasets'"),
        ("Modle", "'Model'"),
    ],
)
def test_the_package_answers_names_of_other_libraries(word, answer):
    assert not hasattr(lenet5c, word)
    with pytest.raises(
        AttributeError, match=f"^module 'lenet5c' has no attribute '{word}'.*{answer}"
    ):
        getattr(lenet5c, word)


class Network:
    """What an object with hints does."""

    load = habits.Elsewhere()

    def __init__(self):
        self.parameters, self.classes = {}, 3

    def predict(self):
        """Predict."""

    def __getattr__(self, name):
        raise habits.no_attribute(f"{type(self).__name__!r} object", name, dir(self))


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("get_weights", "model.parameters has the arrays by name"),
        ("state_dict", "model.parameters has the arrays by name"),
        ("load_state_dict", "lenet5c.from_torch_state_dict"),
        ("compile", "there is no such step"),
        ("eval", "there are no modes"),
        ("cuda", "on the CPU"),
        ("predict_classes", r"model.predict\(images\)"),
        ("classes_", "here it is model.classes"),
        ("load", r"lenet5c.load\(path\)"),
        ("predcit", "did you mean 'predict'"),
    ],
)
def test_objects_answer_names_of_other_libraries(word, answer):
    with pytest.raises(AttributeError, match=f"has no attribute '{word}'.*{answer}"):
        getattr(Network(), word)
    assert not hasattr(Network(), word)
    assert getattr(Network(), word, 5) == 5


def test_an_answer_that_the_object_does_not_have_is_not_given():
    with pytest.raises(AttributeError) as error:
        _ = Network().score  # model.evaluate is for models
    assert str(error.value) == "'Network' object has no attribute 'score'"


def test_private_names_get_no_hint():
    for name in ("_predict", "__predict__", "_repr_html_"):
        with pytest.raises(AttributeError) as error:
            getattr(Network(), name)
        assert str(error.value) == f"'Network' object has no attribute {name!r}"


def test_objects_with_hints_can_be_copied():
    network = Network()
    network.classes = 7
    assert copy.deepcopy(network).classes == 7
    assert pickle.loads(pickle.dumps(network)).classes == 7


def test_a_class_says_where_its_function_is():
    with pytest.raises(AttributeError, match=r"type object 'Network'.* lenet5c\.load"):
        _ = Network.load
    assert not hasattr(Network, "load")


def test_every_answer_is_an_argument_of_something():
    estimator = lenet5c.LeNet5Classifier
    known = {
        name
        for function in (*FUNCTIONS, estimator, estimator.fit)
        for name in inspect.signature(function).parameters
    }
    for answer in habits.ARGUMENTS:
        first = answer.partition("=")[0]
        assert first in known or " " in first, answer


def test_every_answer_names_what_there_is():
    model = lenet5c.lenet5()
    history = lenet5c.History()
    for table in (habits.ARGUMENTS, habits.ATTRIBUTES, habits.NAMES):
        for answer in table:
            for name in re.findall(r"lenet5c\.([\w.]+)", answer):
                value = lenet5c
                for part in name.split("."):
                    value = getattr(value, part)
            for name in re.findall(r"model\.(\w+)", answer):
                assert hasattr(model, name) or hasattr(history, name), answer


def test_no_word_is_a_name_of_ours():
    """What exists never comes to the table."""
    for word in " ".join(habits.NAMES.values()).split():
        assert not hasattr(lenet5c, word), word
    for word in " ".join(habits.ATTRIBUTES.values()).split():
        assert not hasattr(lenet5c.lenet5(), word), word


@pytest.mark.parametrize(
    ("word", "names", "meant"),
    [
        ("epoch", ["epochs", "batch_size"], "epochs"),
        ("batchSize", ["epochs", "batch_size"], "batch_size"),
        ("eval", ["train", "evaluate"], "evaluate"),
        ("stirde", ["stride", "padding"], "stride"),
        ("adam", ["sgd", "adamw"], "adamw"),
        ("vgg", ["lenet5", "mlp", "cnn3"], None),
        ("e", ["epochs"], None),
        ("", ["epochs"], None),
    ],
)
def test_the_nearest_name(word, names, meant):
    assert habits.nearest(word, names) == meant
