"""Optimizers: the fused steps equal the formulas in float64, and PyTorch's."""

import math
import pickle

import numpy as np
import pytest

import lenet5c
from lenet5c.training.curvature import gauss_newton_diagonal
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


RATES = np.random.default_rng(3).uniform(0.1, 50, SIZE).astype(np.float32)


class Estimated(lenet5c.SDLM):
    """With rates that no network has to be estimated for."""

    def prepare(self, parameters):
        super().prepare(parameters)
        self.state[0][:] = RATES[: len(parameters)]


def test_sdlm_equals_its_formula_in_float64():
    w = start().astype(np.float64)
    for g, eta in zip(gradients(), rates(0.01), strict=True):
        w = w - eta * RATES * g
    found = run(Estimated(), 0.01)
    assert np.abs(w - start()).max() > 1
    np.testing.assert_allclose(found, w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [lenet5c.SGD, lenet5c.AdamW, Estimated])
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


@pytest.mark.parametrize("make", [lenet5c.SGD, lenet5c.AdamW, Estimated])
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
        (lenet5c.SDLM, "learning_rate", None),
        (lenet5c.SDLM, "mu", None),
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

    assert repr(lenet5c.SDLM()) == "SDLM(learning_rate=0.0005, mu=0.02, samples=500)"


@pytest.mark.parametrize(
    ("samples", "mu"),
    [(0, 0.1), (2.5, 0.1), (None, 0.1), (5, 0), (5, 1e-50), (5, 1e39)],
)
def test_sdlm_refuses_no_samples_and_a_mu_beyond_float32_by_name(samples, mu):
    argument = "samples" if mu == 0.1 else "mu"
    with pytest.raises((TypeError, ValueError), match=f"^{argument}: "):
        lenet5c.SDLM(samples=samples, mu=mu)


def test_none_is_the_default_optimizer():
    assert repr(as_optimizer(None)) == repr(lenet5c.SGD())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", lenet5c.SGD), ("adamw", lenet5c.AdamW), ("sdlm", lenet5c.SDLM)],
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
        ("SDLM", "sdlm"),
    ],
)
def test_a_name_that_is_nearly_an_optimizers_is_refused_with_that(name, meant):
    with pytest.raises(ValueError, match=f"^optimizer: .* did you mean '{meant}'"):
        as_optimizer(name)


@pytest.mark.parametrize("kind", [lenet5c.SGD, lenet5c.AdamW, lenet5c.SDLM])
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


def test_before_a_pass_sdlm_takes_its_rates_from_the_first_images(small_images):
    model, pixels = lenet5c.lenet5(), small_images[:, np.newaxis]
    order = np.random.default_rng(0).permutation(len(pixels))
    weights = np.linspace(0, 3, len(pixels), dtype=np.float32)
    optimizer = lenet5c.SDLM(mu=0.03, samples=7)
    optimizer.before_epoch(model, pixels, order, weights=weights)
    h = gauss_newton_diagonal(model, pixels, order[:7], weights=weights)
    assert np.ptp(h) > 0.01
    expected = 1 / (0.03 + h.astype(np.float64))
    np.testing.assert_allclose(optimizer.state[0], expected, rtol=1e-6)
    optimizer = lenet5c.SDLM(samples=10**9)  # more than there are
    optimizer.before_epoch(model, pixels, order)
    h = gauss_newton_diagonal(model, pixels, order)
    np.testing.assert_allclose(optimizer.state[0], 1 / (0.02 + h), rtol=1e-6)


def test_second_derivatives_beyond_float32_are_refused(small_images, labels):
    images = small_images.astype(np.float32) * np.float32(1e20)
    model = lenet5c.lenet5()
    before = model.parameter_vector.copy()
    with pytest.raises(ValueError, match=r"^optimizer: .* images or weights"):
        model.fit(images, labels, optimizer="sdlm")
    np.testing.assert_array_equal(model.parameter_vector, before)


def test_sdlm_makes_no_step_without_rates_for_these_parameters(small_images, labels):
    batch = small_images[:16], labels[:16]
    pixels, order = small_images[:, np.newaxis], np.arange(len(small_images))
    optimizer, model, other = lenet5c.SDLM(), lenet5c.lenet5(), lenet5c.lenet5(seed=1)
    optimizer.before_epoch(other, pixels, order)
    before = model.parameter_vector.copy()
    for fresh in (optimizer, lenet5c.SDLM()):
        with pytest.raises(RuntimeError, match="before_epoch"):
            model.train_step(*batch, fresh)
    np.testing.assert_array_equal(model.parameter_vector, before)
    optimizer.before_epoch(model, pixels, order)
    model.train_step(*batch, optimizer)
    assert (model.parameter_vector != before).mean() > 0.9


def test_fit_estimates_before_each_pass_from_the_images_that_it_begins_with(
    small_images, labels
):
    """The same bits as a loop by hand, and none of the images held out."""
    held_out = small_images[:20], labels[:20]
    images, codes = small_images[20:], labels[20:]
    seen = []

    class Watched(lenet5c.SDLM):
        def before_epoch(self, model, pixels, order, **rest):
            assert (rest["weights"], rest["threads"]) == (None, 1)
            assert (rest["augment"], rest["seed"], rest["epoch"]) == (
                *(None, 5),
                len(seen) + 1,
            )
            np.testing.assert_array_equal(pixels[:, 0], images)
            seen.append(order.copy())
            super().before_epoch(model, pixels, order, **rest)

    model = lenet5c.lenet5()
    options = {"epochs": 3, "batch_size": 8, "schedule": "constant", "threads": 1}
    options |= {"seed": 5, "validation": held_out, "clip_norm": np.inf}
    model.fit(images, codes, optimizer=Watched(0.001, samples=11), **options)
    assert len(seen) == 3
    assert not np.array_equal(seen[0], seen[1])

    by_hand, optimizer = lenet5c.lenet5(), lenet5c.SDLM(0.001, samples=11)
    by_hand.set_input(model.stage, model.source, model.classes)
    for order in seen:
        assert sorted(order) == list(range(len(images)))
        optimizer.before_epoch(by_hand, images[:, np.newaxis], order)
        for at in range(0, len(order), 8):
            chosen = order[at : at + 8]
            by_hand.train_step(images[chosen], codes[chosen], optimizer)
    np.testing.assert_array_equal(model.parameter_vector, by_hand.parameter_vector)


def test_a_network_that_sdlm_cannot_train_is_refused_before_it_changes(
    small_images, labels
):
    layers = [lenet5c.BatchNorm2d(), lenet5c.Dense(10)]
    model = lenet5c.Model(layers, input_shape=(1, *small_images.shape[1:]))
    before = model.state_vector.copy()
    with pytest.raises(ValueError, match=r"^optimizer: .*'batch_norm2d', got SDLM"):
        model.fit(small_images, labels, optimizer="sdlm")
    np.testing.assert_array_equal(model.state_vector, before)
    assert not model.fitted


def test_native_steps_refuse_sdlm_which_needs_passes(small_images):
    model, optimizer = lenet5c.lenet5(), lenet5c.SDLM()
    for _ in range(2):
        with pytest.raises(
            NotImplementedError, match=r"^optimizer: .*SDLM.* no passes"
        ):
            model.trainer(optimizer)
        optimizer.before_epoch(model, small_images[:, np.newaxis], np.arange(9))


def test_a_pickle_has_the_state_and_not_the_parameters():
    optimizer = lenet5c.SGD(momentum=0.9)
    run(optimizer, 0.1)
    pickled = pickle.dumps(optimizer)
    assert len(pickled) < 1.1 * optimizer.state[0].nbytes
    again = pickle.loads(pickled)
    assert again.steps == STEPS
    np.testing.assert_array_equal(again.state, optimizer.state)
