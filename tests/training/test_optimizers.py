"""Optimizers: the fused steps equal the formulas in float64, and PyTorch's."""

import math

import numpy as np
import pytest

import lenet5c
from lenet5c.training.optimizers import Optimizer, as_optimizer, checked_optimizer

SIZE = 9_001  # several slices of the vector, the last one ragged
STEPS = 20


def rates(first: float) -> list[float]:
    """A learning rate for each step."""
    return [first * (1 - 0.03 * step) for step in range(STEPS)]


def start() -> np.ndarray:
    return np.random.default_rng(1).normal(size=SIZE).astype(np.float32)


def gradients() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    scales = rng.uniform(0.01, 2, (STEPS, 1))
    return list((scales * rng.normal(size=(STEPS, SIZE))).astype(np.float32))


def run(optimizer: Optimizer, first: float, threads: int = 2) -> np.ndarray:
    w = start()
    for gradient, rate in zip(gradients(), rates(first), strict=True):
        optimizer.step(w, gradient, rate, threads)
    return w


def sgd_reference(rate, momentum, nesterov, weight_decay) -> np.ndarray:
    w = start().astype(np.float64)
    v = np.zeros(SIZE)
    for g, eta in zip(gradients(), rates(rate), strict=True):
        d = g + weight_decay * w
        v = momentum * v + d
        w = w - eta * (d + momentum * v if nesterov else v)
    return w


def adamw_reference(rate, beta1, beta2, eps, weight_decay) -> np.ndarray:
    w = start().astype(np.float64)
    m, v = np.zeros(SIZE), np.zeros(SIZE)
    for t, (g, eta) in enumerate(zip(gradients(), rates(rate), strict=True), 1):
        g = g.astype(np.float64)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        w = w - eta * (weight_decay * w + m_hat / (np.sqrt(v_hat) + eps))
    return w


SGD_OPTIONS = [
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.0},
    {"momentum": 0.9, "nesterov": False, "weight_decay": 0.01},
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
]
ADAMW_OPTIONS = [
    {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01},
    {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.3},
    {"beta1": 0.0, "beta2": 0.0, "eps": 0.1, "weight_decay": 0.0},
]


@pytest.mark.parametrize("options", SGD_OPTIONS)
def test_sgd_equals_its_formula_in_float64(options):
    found = run(lenet5c.SGD(**options), 0.1)
    expected = sgd_reference(0.1, **options)
    assert np.abs(expected - start()).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", ADAMW_OPTIONS)
def test_adamw_equals_its_formula_in_float64(options):
    found = run(lenet5c.AdamW(**options), 0.02)
    expected = adamw_reference(0.02, **options)
    assert np.abs(expected - start()).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def run_torch(torch, make, first: float) -> np.ndarray:
    w = torch.nn.Parameter(torch.from_numpy(start()))
    optimizer = make([w])
    for gradient, rate in zip(gradients(), rates(first), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        w.grad = torch.from_numpy(gradient)
        optimizer.step()
    return w.detach().numpy()


@pytest.mark.parametrize("options", SGD_OPTIONS)
def test_sgd_equals_pytorch(options):
    torch = pytest.importorskip("torch")
    expected = run_torch(
        torch, lambda w: torch.optim.SGD(w, lr=0.1, dampening=0, **options), 0.1
    )
    found = run(lenet5c.SGD(**options), 0.1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", ADAMW_OPTIONS[:2])
def test_adamw_equals_pytorch(options):
    torch = pytest.importorskip("torch")
    betas = options["beta1"], options["beta2"]
    expected = run_torch(
        torch,
        lambda w: torch.optim.AdamW(
            w,
            lr=0.02,
            betas=betas,
            eps=options["eps"],
            weight_decay=options["weight_decay"],
        ),
        0.02,
    )
    found = run(lenet5c.AdamW(**options), 0.02)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [lenet5c.SGD, lenet5c.AdamW])
def test_a_step_gives_the_same_bits_on_any_number_of_threads(make):
    expected = run(make(), 0.01, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(run(make(), 0.01, threads), expected)


def test_a_step_changes_the_vector_in_place_and_not_the_gradient():
    w, g = start(), gradients()[0]
    before, g_before = w.copy(), g.copy()
    lenet5c.SGD(momentum=0).step(w, g, 0.5, 1)
    np.testing.assert_array_equal(g, g_before)
    np.testing.assert_allclose(w, before - 0.5 * g, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", [lenet5c.SGD, lenet5c.AdamW])
def test_state_is_kept_for_the_same_parameters_and_made_anew_for_others(make):
    optimizer = make()
    parameters = np.ones(5, "f4")
    optimizer.step(parameters, np.ones(5, "f4"), 0.1, 1)
    assert optimizer.steps == 1
    assert [len(vector) for vector in optimizer.state] == [5] * optimizer.state_size
    optimizer.prepare(parameters)
    assert all((vector != 0).all() for vector in optimizer.state)
    optimizer.prepare(np.ones(6, "f4"))
    assert optimizer.steps == 0
    assert all((vector == 0).all() for vector in optimizer.state)
    assert [len(vector) for vector in optimizer.state] == [6] * optimizer.state_size


@pytest.mark.parametrize("make", [lenet5c.SGD, lenet5c.AdamW])
@pytest.mark.parametrize(
    ("w", "g"),
    [
        (np.zeros(5, "f8"), np.zeros(5, "f4")),
        (np.zeros(5, "f4"), np.zeros(5, "f8")),
        (np.zeros(5, "f4"), np.zeros(4, "f4")),
        (np.zeros(10, "f4")[::2], np.zeros(5, "f4")),
        (np.zeros((5, 1), "f4"), np.zeros(5, "f4")),
        (np.zeros(5, "f4"), None),
    ],
)
def test_vectors_that_do_not_fit_are_refused(make, w, g):
    with pytest.raises((TypeError, ValueError)):
        make().step(w, g, 0.1, 1)


def test_a_read_only_vector_is_refused():
    w = np.zeros(5, "f4")
    w.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        lenet5c.SGD().step(w, np.ones(5, "f4"), 0.1, 1)


NOT_NUMBERS = [None, "0.1", True, [0.1], np.array([0.1]), 1j]
OUTSIDE = [-0.1, math.nan, -math.inf, math.inf]


@pytest.mark.parametrize(
    ("make", "argument", "most"),
    [
        (lenet5c.SGD, "learning_rate", None),
        (lenet5c.SGD, "momentum", 1),
        (lenet5c.SGD, "weight_decay", None),
        (lenet5c.AdamW, "learning_rate", None),
        (lenet5c.AdamW, "beta1", 1),
        (lenet5c.AdamW, "beta2", 1.0),
        (lenet5c.AdamW, "eps", None),
        (lenet5c.AdamW, "weight_decay", None),
    ],
)
def test_bad_options_are_refused_by_name(make, argument, most):
    for value in NOT_NUMBERS:
        with pytest.raises(TypeError, match=argument):
            make(**{argument: value})
    for value in OUTSIDE if most is None else [*OUTSIDE, most]:
        with pytest.raises(ValueError, match=argument):
            make(**{argument: value})


@pytest.mark.parametrize(
    "value",
    [10**400, np.complex64(1), np.bool_(True)],
    ids=["too large", "complex", "bool"],
)
def test_numbers_that_are_no_floats_are_refused_by_name(value):
    with pytest.raises((TypeError, ValueError), match="learning_rate"):
        lenet5c.SGD(value)


@pytest.mark.parametrize("value", [0, 0.0, 1, np.float32(0.5), np.int64(1)])
def test_any_real_number_is_a_learning_rate(value):
    assert lenet5c.SGD(value).learning_rate == float(value)


def test_options_have_the_documented_defaults():
    assert repr(lenet5c.SGD()) == (
        "SGD(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.0)"
    )
    assert repr(lenet5c.AdamW()) == (
        "AdamW(learning_rate=0.001, beta1=0.9, beta2=0.999, eps=1e-08, "
        "weight_decay=0.01)"
    )


def test_none_is_the_default_optimizer():
    assert repr(as_optimizer(None)) == repr(lenet5c.SGD())


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", lenet5c.SGD), ("adamw", lenet5c.AdamW)]
)
def test_an_optimizer_has_a_name_for_its_defaults(name, kind):
    assert repr(as_optimizer(name)) == repr(kind())
    assert as_optimizer(name) is not as_optimizer(name)  # its state is its own


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("adam", "adamw"),
        ("AdamW", "adamw"),
        ("rmsprop", "adamw"),
        ("SGD", "sgd"),
        ("sdg", "sgd"),
    ],
)
def test_a_name_that_is_nearly_an_optimizers_is_refused_with_that(name, meant):
    with pytest.raises(ValueError, match=f"^optimizer: .* did you mean '{meant}'"):
        as_optimizer(name)


@pytest.mark.parametrize("kind", [lenet5c.SGD, lenet5c.AdamW])
def test_a_class_is_refused_with_how_to_make_one(kind):
    with pytest.raises(TypeError, match=rf"lenet5c\.{kind.__name__}\(\)"):
        as_optimizer(kind)


@pytest.mark.parametrize("optimizer", [0.1, object(), np.zeros(2), int])
def test_what_is_no_optimizer_is_refused(optimizer):
    with pytest.raises(TypeError, match="optimizer: expected an optimizer such as"):
        as_optimizer(optimizer)


@pytest.mark.parametrize("optimizer", ["sgd", None, lenet5c.AdamW])
def test_what_would_lose_its_state_after_each_step_is_refused(optimizer):
    with pytest.raises(TypeError, match="optimizer: expected an optimizer such as"):
        checked_optimizer(optimizer)
    adam = lenet5c.AdamW()
    assert checked_optimizer(adam) is adam


@pytest.mark.parametrize("make", [lenet5c.SGD, lenet5c.AdamW])
def test_ctrl_c_while_a_state_is_made_leaves_none_behind(make, monkeypatch):
    """The optimizer starts afresh then, as if the step had not been begun."""
    w, g = np.ones((2, 50), np.float32)
    interrupted, expected = make(0.1), make(0.1)
    interrupted.step(np.zeros(7, np.float32), np.ones(7, np.float32), 0.1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(np, "zeros_like", lambda _: exec("raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            interrupted.step(w, g, 0.1, 1)
    other = w.copy()
    interrupted.step(w, g, 0.1, 1)
    expected.step(other, g, 0.1, 1)
    assert interrupted.steps == 1
    np.testing.assert_array_equal(w, other)


@pytest.mark.parametrize("make", [lenet5c.SGD, lenet5c.AdamW])
def test_a_state_of_too_few_vectors_is_refused(make):
    optimizer = make(0.1)
    w, g = np.ones((2, 50), np.float32)
    optimizer.step(w, g, 0.1, 1)
    optimizer.state.pop()
    with pytest.raises(ValueError, match=r"^state: expected \d vectors, got"):
        optimizer.step(w, g, 0.1, 1)
