"""Which engine predicts, and that it predicts with the weights as they are.

The choice is a function of costs and of a number of images: tested with made-up costs.
"""

import copy
import ctypes
import gc
import pickle
import threading

import numpy as np
import pytest

import lenet5c
from lenet5c import embed
from lenet5c._support.cores import core
from lenet5c.data.images import InputStage
from lenet5c.engine import (
    CORE_CALL,
    CORE_LOADS,
    IMAGES_A_CALL,
    NOT_FULL,
    RUNTIME_CALL,
    RUNTIME_LOADS,
    SECOND_CALL,
    SHARED_LOADS,
    Costs,
    images_for_core,
    loading,
)

COSTS = Costs(image=100_000, block=800_000, images_of_block=16)


@pytest.fixture
def model():
    return lenet5c.mlp(hidden=12, seed=3)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).integers(0, 256, (70, 28, 28), dtype=np.uint8)


def truth(model, images):
    """Logits of a model that was just made and has these weights."""
    fresh = lenet5c.mlp(hidden=12)
    for name in fresh.parameters:
        fresh.parameters[name] = model.parameters[name].copy()
    return fresh.forward(images)


def cycles(count, by_core, costs):
    """What a way costs, written down once more."""
    image, block, size, call = costs
    full, rest = divmod(by_core, size)
    left = count - by_core
    calls = call + (SECOND_CALL if left else 0) if by_core else RUNTIME_CALL
    return calls + (full + NOT_FULL * (rest > 0)) * block + left * image


# The choice


@pytest.mark.parametrize("image", [1e3, 2e4, 5e4, 6e4, 1e5, 3e5, 1e6])
@pytest.mark.parametrize("size", [4, 16, 32])
def test_no_other_way_is_cheaper(image, size):
    costs = Costs(image, 800_000, size)
    for count in range(1, 5 * size):
        chosen, found = images_for_core(count, costs)
        assert chosen in (0, count, count // size * size)
        assert found == pytest.approx(cycles(count, chosen, costs))
        for other in range(count + 1):
            if other % size == 0 or other == count:
                assert found <= cycles(count, other, costs) * (1 + 1e-12)


def test_few_images_go_to_the_runtime_and_full_blocks_to_the_core():
    assert [images_for_core(n, COSTS)[0] for n in (1, 5, 9)] == [0, 0, 0]
    assert [images_for_core(n, COSTS)[0] for n in (10, 15, 16)] == [10, 15, 16]
    assert [images_for_core(n, COSTS)[0] for n in (17, 24, 26)] == [16, 16, 26]
    assert [images_for_core(n, COSTS)[0] for n in (32, 33, 1001)] == [32, 32, 992]


def test_a_network_without_a_runtime_goes_to_the_core():
    costs = COSTS._replace(image=float("inf"))
    assert all(images_for_core(n, costs)[0] == n for n in (1, 2, 16, 17, 4096))


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1, 1.5, 2, 3])
@pytest.mark.parametrize("size", [4, 8, 16, 32])
def test_the_time_of_an_image_takes_no_step_up(ratio, size):
    """But for the calls' own costs: an engine is 10 blocks of them at the least."""
    costs = Costs(1e8, 1e8 * size / ratio, size)
    before = np.inf
    for count in range(1, 4 * size):
        per_image = images_for_core(count, costs)[1] / count
        bound = 1 + max(0.15, (ratio - 1) / (size + 1) + 0.001)
        assert per_image <= before * bound
        before = per_image


def test_images_of_a_call_end_at_a_block():
    for make in (lenet5c.lenet5, lenet5c.resnet18):
        assert IMAGES_A_CALL % make()._network.images_together == 0


def test_networks_with_more_products_cost_more(images):
    costs = []
    for make in (lenet5c.mlp, lenet5c.lenet5, lenet5c.cnn3, lenet5c.resnet18):
        model = make()
        model.forward(images[:1])
        found = model._engine._header.costs
        size = found.images_of_block
        # beyond scalar arithmetic there is nothing but a call's own costs
        assert 0 < found.image < 2 * model.multiply_adds
        assert 0 < found.block < 2 * model.multiply_adds * size
        costs.append((found.image, found.block / size))
    assert costs == sorted(costs)
    assert [block for _, block in costs] == sorted(block for _, block in costs)


@pytest.mark.parametrize(
    ("make", "images_at_once"),
    [(lambda: lenet5c.mlp(hidden=1024), 8), (lenet5c.lenet5, 1)],
)
def test_what_images_share_is_loaded_once_for_them(make, images_at_once, images):
    model = make()
    model.forward(images[:1])
    header = model._engine._header
    count = len(model.state_vector)
    cycles, weights, together = embed.cost_of_image(header.content, count)
    assert together == images_at_once
    rate = RUNTIME_LOADS if together == 1 else SHARED_LOADS * together
    assert header.costs.image == max(cycles, loading(weights, rate))
    assert loading(1 << 19, rate) == 0 < loading(1 << 24, rate)
    network = model._network
    block, weights = network.cost
    assert (
        header.costs.block == block
    )  # one that the cache holds, or loaded by the call
    shared = loading(weights, CORE_LOADS) if network.is_layerwise else 0
    assert header.costs.call == CORE_CALL + shared
    assert (shared > 0) == (images_at_once > 1)


@pytest.mark.parametrize("make", [lenet5c.lenet5, lenet5c.cnn3, lenet5c.resnet18])
def test_forced_engines_agree(make, images):
    model = make()
    found = {}
    for engine in ("core", "runtime", None):
        model._engine.forced = engine
        found[engine] = model.forward(images[:37])
    np.testing.assert_allclose(found["core"], found["runtime"], atol=1e-4)
    np.testing.assert_allclose(found[None], found["core"], atol=1e-4)


def choosing(model, costs):
    """The model with made-up costs."""
    model.forward(np.zeros((1, 28, 28), np.uint8))
    model._engine._header = model._engine._header._replace(costs=costs)
    return model


def test_each_engine_gets_the_images_that_are_its_own(model, images):
    size = model._network.images_together
    choosing(model, Costs(1e6, 1e6 * size / 2, size))
    count = 2 * size + 1
    mixed, mixed_shares = (
        model.forward(images[:count]),
        model.predict_proba(images[:count]),
    )
    model._engine.forced = "core"
    np.testing.assert_array_equal(mixed[:-1], model.forward(images[: 2 * size]))
    np.testing.assert_array_equal(
        mixed_shares[:-1], model.predict_proba(images[: 2 * size])
    )
    model._engine.forced = "runtime"
    np.testing.assert_array_equal(mixed[-1:], model.forward(images[count - 1 : count]))
    np.testing.assert_array_equal(
        mixed_shares[-1:], model.predict_proba(images[count - 1 : count])
    )


@pytest.mark.parametrize("count", [1, 7, 16, 33, 70])
def test_what_an_image_gives_does_not_depend_on_what_the_others_hold(count, images):
    model = lenet5c.lenet5()
    others = images[::-1].copy()
    for at in (0, count // 2, count - 1):
        changed = others[:count].copy()
        changed[at] = images[at]
        found = model.forward(changed)[at]
        np.testing.assert_array_equal(found, model.forward(images[:count])[at])


@pytest.mark.parametrize("count", [1, 9, 16, 33, 70])
def test_the_order_of_images_changes_nothing_where_one_engine_takes_all(count, images):
    model = lenet5c.cnn3()
    model.predicts_alike = True
    order = np.random.default_rng(1).permutation(count)
    expected = model.forward(images[:count])
    np.testing.assert_array_equal(model.forward(images[order]), expected[order])
    again = pickle.loads(pickle.dumps(model))
    assert again.predicts_alike
    assert not lenet5c.cnn3().predicts_alike
    np.testing.assert_array_equal(again.forward(images[order]), expected[order])


def test_one_engine_for_all_is_the_cheaper_one():
    assert images_for_core(9, COSTS, alike=True)[0] == 0
    assert images_for_core(17, COSTS, alike=True)[0] == 0
    assert images_for_core(18, COSTS, alike=True)[0] == 18
    assert images_for_core(16, COSTS, alike=True)[0] == 16
    dear = COSTS._replace(image=10_000)
    assert [images_for_core(n, dear, alike=True)[0] for n in (1, 16, 33)] == [0, 0, 0]


@pytest.mark.parametrize("count", [1, 9, 16, 33, 70])
def test_all_methods_say_the_same_of_the_same_images(count, images):
    model = lenet5c.cnn3()
    labels = np.arange(70)[:count] % 10
    logits = model.forward(images[:count])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    found = model.predict_proba(images[:count])
    np.testing.assert_allclose(found, shares, atol=1e-6)
    assert (model.predict(images[:count]) == logits.argmax(axis=1)).all()
    assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()
    right = (logits.argmax(axis=1) == labels).mean()
    assert model.evaluate(images[:count], labels).accuracy == right
    for threads in (1, 2, 3):
        again = model.forward(images[:count], threads=threads)
        np.testing.assert_array_equal(again, logits)


def test_the_same_call_gives_the_same_bits_after_any_other(images):
    """The choice does not depend on what is packed already."""
    model = lenet5c.cnn3()
    expected = {n: lenet5c.cnn3().forward(images[:n]) for n in (1, 16, 33, 70)}
    for n in (70, 1, 33, 16, 1, 70, 33):
        np.testing.assert_array_equal(model.forward(images[:n]), expected[n])
        model.parameter_vector[:] *= 1
        np.testing.assert_array_equal(model.forward(images[:n]), expected[n])


@pytest.mark.parametrize(("given", "taken"), [(None, 4), (8, 8)])
def test_a_long_prediction_takes_its_share_of_the_cpus(monkeypatch, given, taken):
    of, seen = lenet5c._support.threads, []
    monkeypatch.setattr(of, "_sharing", {0})  # another thread that predicts
    monkeypatch.setattr(of, "usable_cpus", lambda: set(range(8)))
    monkeypatch.setattr(of, "cpu_quota", lambda: 8)
    monkeypatch.setattr(of.core, "max_threads", lambda: 8)
    model = lenet5c.lenet5()
    run_core = model._engine._run_core

    def watched(kept, pixels, y, threads, *rest):
        seen.append((threads, len(of._sharing)))
        return run_core(kept, pixels, y, threads, *rest)

    monkeypatch.setattr(model._engine, "_run_core", watched)
    model.predict(np.zeros((1024, 28, 28), np.uint8), threads=given)
    assert seen == [(taken, 1 if given else 2)]
    assert of._sharing == {0}


def test_more_images_than_a_call_takes(model):
    many = np.random.default_rng(0).integers(
        0, 256, (IMAGES_A_CALL + 5, 28, 28), dtype=np.uint8
    )
    found = model.forward(many)
    np.testing.assert_array_equal(
        found[:IMAGES_A_CALL], model.forward(many[:IMAGES_A_CALL])
    )
    np.testing.assert_array_equal(
        found[IMAGES_A_CALL:], model.forward(many[IMAGES_A_CALL:])
    )


# Writes


def by_item(model):
    model.parameters["OUTPUT.bias"][3] += 1


def by_assignment(model):
    model.parameters["OUTPUT.bias"] = np.arange(10)


def by_vector(model):
    model.parameter_vector[-2] += 1


def by_augmented_assignment(model):
    model.parameter_vector *= np.float32(1.5)


def by_augmented_state(model):
    model.state_vector += 1


def by_new_vector(model):
    model.parameter_vector = model.parameter_vector + 1


def by_memoryview(model):
    memoryview(model.parameter_vector)[3:][-1] = 5.0


def by_frombuffer(model):
    np.frombuffer(model.state_vector, np.float32)[-1] = 4


def by_bytes(model):
    model.state_vector.view(np.uint8)[-1] ^= 64


def by_transpose_of_a_view_of_a_view(model):
    model.parameters["OUTPUT.weight"].T[2:][::-1][:, 1] += 3


def by_ctypes(model):
    pointer = model.parameter_vector.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    pointer[len(model.parameter_vector) - 1] = 7


def by_ctypes_array(model):
    (ctypes.c_float * model.parameter_count).from_buffer(model.parameter_vector)[-1] = 7


def by_base(model):
    """The memory of the vector itself."""
    memory = model.parameter_vector.base
    while isinstance(memory, np.ndarray):
        memory = memory.base
    memoryview(memory)[-1] = 9.0


def by_optimizer(model):
    gradient = np.ones_like(model.parameter_vector)
    optimizer = lenet5c.SGD()
    optimizer.prepare(model.parameter_vector)
    optimizer.step(model.parameter_vector, gradient, 0.1, 1)


def by_train_step(model):
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    model.train_step(images, np.arange(8), lenet5c.SGD())


def by_fit(model):
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    model.set_input(model.stage, (28, 28), np.arange(10))
    model.fit(images, np.arange(40) % 10, epochs=1, weight_average=0.9)


def by_torch(model):
    torch = pytest.importorskip("torch")
    torch.from_numpy(model.parameter_vector)[-1] += 1


def by_another_thread(model):
    thread = threading.Thread(target=by_item, args=(model,))
    thread.start()
    thread.join()


WAYS = [value for name, value in list(globals().items()) if name.startswith("by_")]


@pytest.mark.parametrize("write", WAYS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("count", [1, 33])
def test_a_write_between_two_predictions_is_seen(write, count, model, images):
    """By a view that is made, written to and gone in between."""
    before = model.forward(images[:count])
    model.forward(images[:count])
    assert model._engine._kept.mark is not None
    write(model)
    found = model.forward(images[:count])
    assert not np.array_equal(found, before)
    np.testing.assert_array_equal(found, truth(model, images[:count]))
    np.testing.assert_array_equal(found, model.forward(images[:count]))


HELD = {
    "vector": lambda model: model.parameter_vector,
    "state": lambda model: model.state_vector,
    "piece": lambda model: model.parameter_vector[40:][::-1],
    "parameter": lambda model: model.parameters["OUTPUT.bias"],
    "memoryview": lambda model: memoryview(model.parameter_vector)[5:],
    "bytes": lambda model: np.frombuffer(model.state_vector.view(np.uint8), np.float32),
    "reshaped": lambda model: model.parameters["OUTPUT.bias"].reshape(1, 10)[0],
    "field": lambda model: model.parameter_vector.view([("value", np.float32)])[
        "value"
    ],
    "subclass": lambda model: model.parameter_vector.view(np.recarray),
}


@pytest.mark.parametrize("hold", HELD)
def test_writes_through_what_is_held_are_seen_each_time(hold, model, images):
    model.forward(images[:1])
    held = HELD[hold](model)
    for step in range(4):
        before = model.forward(images[:1])
        held[-1] = 5 + step
        found = model.forward(images[:1])
        assert not np.array_equal(found, before)
        np.testing.assert_array_equal(found, truth(model, images[:1]))


def test_a_last_write_before_a_view_is_gone_is_seen(model, images):
    """Predictions while it is held say nothing of what it does later."""
    held = model.parameters["OUTPUT.bias"]
    for step in range(3):
        model.forward(images[:1])
        model.forward(images[:1])
        held[step] += 1
    del held
    found = model.forward(images[:1])
    np.testing.assert_array_equal(found, truth(model, images[:1]))


def test_parameters_that_are_kept_in_a_variable(model, images):
    parameters, bias = model.parameters, "OUTPUT.bias"
    for step in range(3):
        before = model.forward(images[:1])
        parameters[bias][step] += 1
        assert not np.array_equal(model.forward(images[:1]), before)
    assert model._engine._kept.mark is None or model._state.mark() is not None


def test_a_view_in_a_cycle_is_held_until_it_is_collected(model, images):
    holder = [model.parameter_vector]
    holder.append(holder)
    holder[0][-1] = 3
    found = model.forward(images[:1])
    np.testing.assert_array_equal(found, truth(model, images[:1]))
    assert model._state.mark() is None
    del holder
    gc.collect()
    assert model._state.mark() is not None


def test_a_view_that_another_thread_writes_to_meanwhile(model, images):
    """What was written before a prediction began is in it."""
    held = model.parameters["OUTPUT.bias"]
    ready, go = threading.Event(), threading.Event()

    def write():
        for step in range(200):
            ready.wait()
            ready.clear()
            held[3] = step
            go.set()

    thread = threading.Thread(target=write)
    thread.start()
    weight = model.forward(images[:1])[0, 3] - held[3]
    for step in range(200):
        ready.set()
        go.wait()
        go.clear()
        found = model.forward(images[:1])[0, 3]
        assert found == pytest.approx(weight + step, abs=1e-3)
    thread.join()


def test_threads_that_predict_and_write_at_once_leave_nothing_stale(model, images):
    def work(number):
        for step in range(60):
            if number % 2:
                model.parameters["OUTPUT.bias"][number] = step
            model.forward(images[:1])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = model.forward(images[:1])
    np.testing.assert_array_equal(found, truth(model, images[:1]))


def test_a_native_trainer_is_seen(model, images):
    model.set_input(model.stage, (28, 28), np.arange(10))
    trainer = model.trainer()
    step = ctypes.CFUNCTYPE(
        ctypes.c_int,
        *(ctypes.c_void_p,) * 4,
        ctypes.c_int,
        ctypes.c_float,
        ctypes.c_void_p,
    )(core.train_step_address())
    codes = (np.arange(8) % 10).astype(np.int32)
    for _ in range(3):
        before = model.forward(images[:1])
        arguments = images.ctypes.data, None, codes.ctypes.data, 8, 0.1, None
        assert step(trainer.address, *arguments) == 0
        found = model.forward(images[:1])
        assert not np.array_equal(found, before)
        np.testing.assert_array_equal(found, truth(model, images[:1]))


def test_running_statistics_that_move_are_seen():
    layers = [lenet5c.Conv2d(4, 3), lenet5c.BatchNorm2d(), lenet5c.Dense(3)]
    model = lenet5c.Model(layers, input_shape=(1, 6, 6), classes=3)
    x = np.random.default_rng(0).normal(size=(9, 1, 6, 6)).astype(np.float32)
    before = model.forward(x)
    name = next(name for name in model.buffers if name.endswith("running_mean"))
    model.buffers[name][1] += 2
    changed = model.forward(x)
    assert not np.array_equal(changed, before)
    for engine in ("core", "runtime"):
        model._engine.forced = engine
        np.testing.assert_allclose(model.forward(x), changed, atol=1e-5)


def test_nothing_is_compared_while_nobody_can_have_written(model, images, monkeypatch):
    class Watched:
        def __init__(self, state):
            self.state, self.compared = state, 0

        def equals(self, other):
            self.compared += 1
            return self.state.equals(other)

        def __getattr__(self, name):
            return getattr(self.state, name)

        def __len__(self):
            return len(self.state)

    model.forward(images[:1])
    watched = Watched(model._engine._state)
    monkeypatch.setattr(model._engine, "_state", watched)
    for n in (1, 2, 33, 70):
        model.forward(images[:n]), model.predict_proba(images[:n])
    assert watched.compared == 0
    held = model.parameter_vector
    model.forward(images[:1]), model.forward(images[:1])
    assert watched.compared == 2
    del held
    model.forward(images[:1]), model.forward(images[:1])
    assert watched.compared == 3


def test_weights_are_packed_once_until_they_change(model, images, monkeypatch):
    class Watched:
        def __init__(self, network):
            self.network, self.packed = network, 0

        def pack(self, *arguments):
            self.packed += 1
            return self.network.pack(*arguments)

        def forward(self, *arguments):
            assert arguments[-1] is not None  # not packed again by the call
            self.network.forward(*arguments)

        def __getattr__(self, name):
            return getattr(self.network, name)

    watched = Watched(model._network)
    monkeypatch.setattr(model._engine, "_network", watched)
    model._engine.forced = "core"
    for n in (1, 33, 70):
        model.forward(images[:n])
    assert watched.packed == 1
    model.parameters["OUTPUT.bias"][0] += 1
    model.forward(images), model.predict_proba(images)
    assert watched.packed == 2


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda m: m.folded()])
def test_copies_have_weights_of_their_own(again, model, images):
    before = model.forward(images[:3])
    other = again(model)
    np.testing.assert_array_equal(other.forward(images[:3]), before)
    other.parameter_vector += 1
    assert not np.array_equal(other.forward(images[:3]), before)
    np.testing.assert_array_equal(model.forward(images[:3]), before)
    restored = pickle.loads(pickle.dumps(other))
    np.testing.assert_array_equal(
        restored.forward(images[:3]), other.forward(images[:3])
    )


def test_arrays_outlive_the_model(model):
    vector, bias = model.parameter_vector, model.parameters["OUTPUT.bias"]
    expected = vector.copy()
    del model
    gc.collect()
    np.testing.assert_array_equal(vector, expected)
    np.testing.assert_array_equal(bias, expected[-10:])
    vector[:] = 2
    assert (bias == 2).all()


@pytest.mark.parametrize("name", ["parameter_vector", "state_vector"])
def test_a_vector_of_another_length_is_refused(name, model):
    before = model.state_vector.copy()
    for wrong in (np.zeros(3), 1.0, np.zeros((2, 5))):
        with pytest.raises(ValueError, match=f"{name}: expected the shape"):
            setattr(model, name, wrong)
    np.testing.assert_array_equal(model.state_vector, before)


def test_a_state_vector_counts_its_buffers():
    state = core.StateVector(5)
    assert len(state) == 5
    first = state.mark()
    array = np.asarray(state)
    assert array.dtype == np.float32
    assert array.shape == (5,)
    assert array.flags.writeable
    assert not array.any()
    assert array.ctypes.data % 64 == 0
    assert state.mark() is None
    piece = array[1:3].reshape(2, 1)
    del array
    assert state.mark() is None
    piece[:] = 4
    del piece
    assert state.mark() not in (None, first)
    assert state.equals(np.array([0, 4, 4, 0, 0], np.float32))
    copied = np.empty(5, np.float32)
    mark = state.mark()
    state.copy_to(copied)
    np.testing.assert_array_equal(copied, [0, 4, 4, 0, 0])
    assert state.mark() == mark
    for wrong in (copied[:4], np.empty(6, np.float32)):
        with pytest.raises(ValueError, match="different lengths"):
            state.equals(wrong)
        with pytest.raises(ValueError, match="different lengths"):
            state.copy_to(wrong)
    assert len(core.StateVector(0)) == 0
    assert np.asarray(core.StateVector(0)).shape == (0,)


def test_what_is_packed_serves_any_number_of_threads(images):
    model = lenet5c.resnet18()
    model._engine.forced = "core"
    expected = model.forward(images[:40], threads=1)
    found = []

    def run():
        found.append(model.forward(images[:40], threads=2))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for logits in found:
        np.testing.assert_array_equal(logits, expected)
    unpacked = np.empty_like(expected)
    model._network.forward(
        model.state_vector,
        lenet5c.data.images.as_images(images[:40], model.input_shape),
        model.stage.for_core(),
        unpacked,
        1,
    )
    np.testing.assert_array_equal(unpacked, expected)


def test_activations_do_not_use_what_was_packed_for_all_layers(images):
    """Where a normalisation is folded into the packed weights, its input is not."""
    model = lenet5c.resnet18()
    model._engine.forced = "core"
    first = next(layer.name for layer in model.layers)
    before = model.activations(images[:2], first)
    model.forward(images[:2])
    np.testing.assert_array_equal(model.activations(images[:2], first), before)


def test_nobody_holds_a_view_when_a_training_is_over(model, images):
    labels = np.arange(40) % 10
    optimizer = lenet5c.SGD()
    model.fit(images[:40], labels, epochs=1, optimizer=optimizer, validation=0.2)
    model.train_step(images[:8], labels[:8], optimizer)
    model.loss_and_gradients(images[:8], labels[:8])
    gc.collect()
    assert model._state.mark() is not None


@pytest.mark.parametrize("make", [lenet5c.SGD, lenet5c.AdamW])
def test_an_optimizer_goes_on_with_another_view_of_the_same_numbers(make, model):
    vector, optimizer = model.parameter_vector.copy(), make()
    expected = make()
    for step in range(3):
        gradient = np.full_like(vector, 0.1 + step)
        expected.step(vector, gradient, 0.1, 1)
        optimizer.step(model.parameter_vector, gradient, 0.1, 1)
    assert optimizer.steps == 3
    np.testing.assert_array_equal(model.parameter_vector, vector)
    for other in (model.parameter_vector[1:], model.parameter_vector[:-1], vector):
        optimizer.prepare(other)
        assert optimizer.steps == 0
        optimizer.step(other, np.zeros_like(other), 0.1, 1)


def test_an_optimizer_that_was_used_is_copied_and_pickled(model):
    optimizer = lenet5c.SGD()
    optimizer.step(model.parameter_vector, np.ones_like(model.parameter_vector), 0.1, 1)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        other.prepare(model.parameter_vector)
        assert other.steps == 0  # its copy's parameters are others
    optimizer.prepare(model.parameter_vector)
    assert optimizer.steps == 1
    state = pickle.loads(pickle.dumps(model._state))
    np.testing.assert_array_equal(np.asarray(state), model.state_vector)
    with pytest.raises(ValueError, match="content: expected 8 bytes"):
        core.StateVector(2, b"123")


@pytest.mark.parametrize("engine", [None, "core", "runtime"])
@pytest.mark.parametrize("at", [0, 15, 16, 36])
@pytest.mark.parametrize(
    ("value", "expected"), [(np.nan, "finite"), (np.inf, "finite"), (1.5, "0 to 1")]
)
def test_whichever_engine_reads_it_a_wrong_pixel_is_named(
    model, engine, at, value, expected
):
    model.set_input(InputStage(pixels="bytes"), (28, 28), np.arange(10))
    model._engine.forced = engine
    images = np.zeros((37, 28, 28), np.float32)
    images[at, 5, 7] = value
    for work in (model.forward, model.predict_proba):
        with pytest.raises(
            ValueError, match=rf"^images: .*{expected}.* image {at} has"
        ):
            work(images)
    images[at] = 0
    assert np.isfinite(model.forward(images)).all()


@pytest.mark.parametrize("pixels", [1, 5, 16, 64, 144, 400])
@pytest.mark.parametrize("outputs", [1, 2, 5, 17, 79, 100, 160, 200, 512])
def test_an_image_costs_more_the_more_is_computed(pixels, outputs):
    """No layer is estimated as free, whichever kernel it gets."""
    found = []
    for layers in ([lenet5c.Dense(outputs)], [lenet5c.Dense(outputs)] * 2):
        layers = [*map(copy.copy, layers), lenet5c.Dense(2)]
        small = lenet5c.Model(layers, input_shape=(1, 1, pixels), classes=2)
        found.append(small._engine._header_of(small._engine._current(small.stage)))
    few, more = (header.costs for header in found)
    assert 0 < few.image < more.image
    assert 0 < few.call + few.block < more.call + more.block
    assert np.isfinite(small.predict_proba(np.zeros((3, 1, 1, pixels)))).all()
