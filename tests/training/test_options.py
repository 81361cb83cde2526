"""An option of training stands once, and is forgotten nowhere."""

import argparse
import dataclasses
import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest

import lenet5c
from lenet5c import Augment, EarlyStopping
from lenet5c.networks import NETWORKS
from lenet5c.training import loop
from lenet5c.training.losses import CrossEntropy, MaximumAPosteriori
from lenet5c.training.options import (
    FLAGS,
    OPTIONS,
    TrainingOptions,
    add_flags,
    flags_given,
)
from lenet5c.training.recipes import (
    RECIPES_OF,
    SGD_RATES,
    Recipe,
    epochs_for,
    sgd_rate,
)

# Not for the command line: what is no text, and the bar, which is always there.
WITHOUT_FLAG = {"callbacks", "comm", "sample_weight", "verbose"}
# Flags of what options are made of.
PARTS = {"learning_rate", "momentum", "weight_decay", "checkpoint_seconds"}


def parameters_of(function):
    return {
        name: each.default
        for name, each in inspect.signature(function).parameters.items()
    }


def test_fit_has_every_option_with_its_default():
    accepted = parameters_of(lenet5c.Model.fit)
    given_apart = {"self", "images", "labels"}
    fields = {
        field.name: field.default for field in dataclasses.fields(TrainingOptions)
    }
    assert {n: d for n, d in accepted.items() if n not in given_apart} == fields
    assert list(accepted)[3:] == list(OPTIONS)


def test_fit_describes_every_option():
    head = lenet5c.Model.fit.__doc__.partition("Returns\n")[0]
    described = [
        name
        for line in head.splitlines()
        if " : " in line
        for name in line.partition(" : ")[0].replace(" ", "").split(",")
    ]
    assert described == ["images", "labels", *OPTIONS]


def test_fit_passes_every_option_on(monkeypatch):
    """Values that differ from the defaults, each of them, reach the loop."""
    values = {
        "epochs": 7,
        "batch_size": 9,
        "optimizer": lenet5c.AdamW(),
        "schedule": lambda step, steps_per_epoch, epochs: 1.0,
        "augment": Augment(),
        "validation": 0.5,
        "seed": 3,
        "threads": 5,
        "callbacks": [print],
        "verbose": True,
        "recipe": Recipe(epochs=2),
        "loss": MaximumAPosteriori(3),
        "label_smoothing": 0.25,
        "weight_average": 0.5,
        "clip_norm": 0.125,
        "accumulate": 4,
        "class_weight": "balanced",
        "sample_weight": [1.0],
        "early_stopping": EarlyStopping(2),
        "max_seconds": 8.0,
        "checkpoint": lenet5c.Checkpoint("folder"),
        "resume": True,
        "log": "run.jsonl",
        "quantize": lenet5c.Bits(4),
        "comm": SimpleNamespace(Get_rank=lambda: 0, Is_inter=lambda: False),
    }
    monkeypatch.setattr(loop, "fit", lambda *arguments: arguments)
    model = lenet5c.mlp()
    *first, options = model.fit("images", "labels", **values)
    assert first == [model, "images", "labels"]
    assert vars(options) == values
    assert values.keys() == OPTIONS.keys()
    for name, value in values.items():
        assert value != OPTIONS[name]


def test_what_recipes_have_is_an_option_that_is_none():
    usual = Recipe()
    for field in dataclasses.fields(Recipe):
        assert parameters_of(lenet5c.Model.fit)[field.name] is None
    options = TrainingOptions()
    for name in ("epochs", "batch_size", "label_smoothing", "weight_average"):
        assert getattr(options, name) == getattr(usual, name)
    assert repr(options.optimizer) == repr(usual.optimizer())
    assert options.clip_norm == usual.clip_norm == 1
    assert options.max_seconds == math.inf


def test_each_option_has_a_flag_but_for_a_few():
    assert set(FLAGS) == OPTIONS.keys() - WITHOUT_FLAG | PARTS


def test_flags_that_are_not_given_leave_the_defaults():
    parser = argparse.ArgumentParser()
    add_flags(parser)
    said = flags_given(parser.parse_args([]))
    assert said.keys() == OPTIONS.keys() - WITHOUT_FLAG | PARTS
    assert said.pop("recipe") == "default"
    assert {said.pop(name) for name in PARTS} == {None}
    assert TrainingOptions().loss == CrossEntropy()
    defaults = {
        field.name: field.default for field in dataclasses.fields(TrainingOptions)
    }
    assert said == {name: defaults[name] for name in said}


def test_the_estimator_has_the_defaults_of_the_options_that_it_shares():
    pytest.importorskip("sklearn")
    own = parameters_of(lenet5c.LeNet5Classifier.__init__)
    usual = TrainingOptions()
    # what they mean there is scikit-learn's
    differs = {"augment", "batch_size", "early_stopping"}
    shared = own.keys() & OPTIONS.keys() - differs
    assert shared == {"class_weight", "clip_norm", "label_smoothing", "verbose"}
    assert {n: own[n] for n in shared} == {n: getattr(usual, n) for n in shared}


def test_the_fingerprint_has_what_decides_the_weights():
    found = TrainingOptions(seed=4, early_stopping=3, threads=1).fingerprint()
    assert found == {  # and not the epochs: more of them may be asked for later
        "batch_size": 64,
        "optimizer": repr(lenet5c.SGD()),
        "schedule": "OneCycle(0.25)",
        "augment": "None",
        "seed": 4,
        "loss": "CrossEntropy()",
        "label_smoothing": 0.0,
        "weight_average": 0.0,
        "clip_norm": 1.0,
        "accumulate": 1,
        "early_stopping": repr(EarlyStopping(3)),
        "quantize": "None",
    }


def test_epochs_left_out_are_more_for_fewer_images():
    options = TrainingOptions(augment=False, clip_norm=math.inf, recipe="default")
    found = {n: options.for_images(n) for n in (60_000, 20_000, 1_437, 150)}
    assert [it.epochs for it in found.values()] == [3, 9, 30, 30]
    assert found[150].clip_norm is None  # the rest is as it was
    assert TrainingOptions(epochs=2).for_images(150).epochs == 2
    assert TrainingOptions(recipe="best").for_images(150).epochs == 27


@pytest.mark.parametrize("name", ["epochs", "batch_size", "accumulate"])
def test_messages_name_the_option(name):
    with pytest.raises(ValueError, match=f"^{name}: expected 1 to 1048576, got 0$"):
        TrainingOptions(**{name: 0})


def test_what_trains_a_network_stands_in_one_place():
    assert RECIPES_OF.keys() == SGD_RATES.keys() == NETWORKS.keys()
    for network, recipe in RECIPES_OF.items():
        optimizer = recipe.optimizer()
        if isinstance(optimizer, lenet5c.SGD):
            assert optimizer.learning_rate == SGD_RATES[network]
    assert sgd_rate("lenet5") == sgd_rate("lenet5", "tanh") == 0.1
    assert sgd_rate("lenet5", "relu") == sgd_rate(lenet5c.lenet5) == 0.02
    assert sgd_rate("mlp", "tanh") == 0.05


def test_fewer_images_get_more_epochs():
    counts = (10, 1437, 12_000, 60_000, 10**7)
    assert [epochs_for(n) for n in counts] == [30, 30, 15, 3, 3]
    with pytest.raises(ValueError, match=r"images: expected 1 to .*, got 0"):
        epochs_for(0)


@pytest.mark.parametrize(
    ("network", "rate"),
    [("lenet5", 0.1), ("mlp", 0.05), ("cnn3", 0.02), ("resnet18", 0.1)],
)
def test_the_estimator_takes_the_rate_of_the_network(network, rate):
    pytest.importorskip("sklearn")
    images, labels = np.eye(16, dtype=np.float32).reshape(16, 4, 4), np.arange(16) % 2
    clf = lenet5c.LeNet5Classifier(network, max_iter=1, n_jobs=1, random_state=0)
    assert clf.fit(images, labels)._optimizer.learning_rate == rate
