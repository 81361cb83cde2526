"""fork, threads and Ctrl-C: no hang, no crash, no wrong answer.

What could hang runs in a process of its own, with a time after which it has failed.
"""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import lenet5c

from .conftest import python_environment

HANG = 60  # seconds; what is tested takes about one

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

SETUP = """
import multiprocessing, os, signal, sys, threading, time
import numpy as np
import lenet5c

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (300, 28, 28), dtype=np.uint8)
labels = np.arange(300) % 10
model = lenet5c.lenet5()

def train():
    model.fit(images, labels, epochs=1, threads=3)

def digest():
    return model.parameter_vector.tobytes()

def fork_and_check():
    '''A child predicts what its parent does, and trains to the same weights.'''
    before = digest()
    expected = model.forward(images, threads=3)
    child = os.fork()
    if child == 0:
        same = np.array_equal(model.forward(images, threads=3), expected)
        train()
        os._exit(0 if same and digest() != before else 1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
"""


@needs_fork
def test_fork_after_training_then_predict_and_train_in_the_child(run_python):
    code = """
train()
codes = []
for _ in range(20):
    codes.append(fork_and_check())
    train()
print(codes)
"""
    done = run_python(SETUP + code, timeout=HANG)
    assert done.stdout == f"{[0] * 20}\n"


@needs_fork
def test_children_train_to_the_weights_of_their_parent(run_python):
    code = """
train()
read, write = os.pipe()
if os.fork() == 0:
    train()
    os.write(write, digest()[:32])
    os._exit(0)
train()
print(os.read(read, 32) == digest()[:32])
os.wait()
"""
    assert run_python(SETUP + code, timeout=HANG).stdout == "True\n"


@needs_fork
def test_a_pool_of_forked_processes(run_python):
    code = """
def predict(part):
    train()
    return model.forward(images[part], threads=2).shape

train()
parts = [slice(start, start + 50) for start in range(0, 300, 50)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(predict, parts) == [(50, 10)] * 6)
    pool.close()
    pool.join()
train()
"""
    assert run_python(SETUP + code, timeout=HANG).stdout == "True\n"


@needs_fork
def test_fork_from_a_thread(run_python):
    """Both the thread and the main thread have used OpenMP before."""
    code = """
train()
codes = []
def work():
    model.forward(images, threads=3)
    codes.append(fork_and_check())
for _ in range(5):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    train()
print(codes)
"""
    done = run_python(SETUP + code, timeout=HANG)
    assert done.stdout == f"{[0] * 5}\n"


@needs_fork
def test_a_handler_that_forks_leaves_the_child_an_error_and_no_hang(run_python):
    """The parent goes on to the same bits, and the child can start anew."""
    code = """
many = np.concatenate([images] * 20)
expected = model.forward(many, threads=3)
children = []
parent = os.getpid()

def fork(*_):
    children.append(os.fork())
    if os.getpid() == parent and len(children) < 3:
        signal.setitimer(signal.ITIMER_REAL, 0.04)

signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.04)
try:
    while os.getpid() == parent and len(children) < 3:
        found = model.forward(many, threads=3)
except RuntimeError as error:
    same = np.array_equal(model.forward(many, threads=3), expected)
    os._exit(5 if same and "forked in the middle of a call" in str(error) else 1)
if os.getpid() != parent:  # it had done all that was left of the call
    os._exit(0 if np.array_equal(found, expected) else 1)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(np.array_equal(found, expected), set(codes) <= {0, 5})
"""
    assert run_python(SETUP + code, timeout=HANG).stdout == "True True\n"


@needs_fork
def test_fork_while_another_thread_trains(run_python):
    """The child has only the thread that forked; it uses a model of its own."""
    code = """
train()
other = lenet5c.lenet5(seed=1)
expected = other.forward(images, threads=3)
stop = []
def work():
    while not stop:
        train()
thread = threading.Thread(target=work)
thread.start()
codes = []
for _ in range(5):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(other.forward(images, threads=3), expected) else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.append(True)
thread.join()
print(codes)
"""
    done = run_python(SETUP + code, timeout=HANG)
    assert done.stdout == f"{[0] * 5}\n"


def test_a_spawned_process_trains(tmp_path):
    """Where fork is not the way to start processes."""
    script = tmp_path / "spawn.py"
    script.write_text(
        """
import multiprocessing
import numpy as np
import lenet5c

def shape(count):
    images = np.zeros((count, 28, 28), np.uint8)
    model = lenet5c.mlp()
    model.fit(images, np.arange(count) % 10, epochs=1)
    return model.predict(images).shape

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(shape, [11]))
        pool.close()
        pool.join()
"""
    )
    done = subprocess.run(
        [sys.executable, script],
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.stdout == "[(11,)]\n", done.stderr


# Threads


def run_at_once(*functions) -> list:
    """The functions' results, each run in a thread of its own, started together."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait(HANG)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return [future.result(HANG) for future in futures]


def random_images(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_predict_with_one_model_at_once(threads):
    model = lenet5c.lenet5()
    sets = [random_images(100, seed) for seed in range(2)]
    expected = [model.forward(images, threads=1) for images in sets]

    def wrong(number):
        return sum(
            not np.array_equal(
                model.forward(sets[number], threads=threads), expected[number]
            )
            for _ in range(100)
        )

    assert run_at_once(lambda: wrong(0), lambda: wrong(1)) == [0, 0]


def test_threads_run_batches_of_different_sizes_at_once():
    """Scratch memory grows and changes hands meanwhile."""
    model = lenet5c.lenet5(activation="relu", pooling="max")
    sizes = [1, 17, 300, 5, 64, 513, 2]
    sets = [random_images(size, size) for size in sizes]
    labels = [np.arange(size) % 10 for size in sizes]
    logits = [model.forward(images, threads=1) for images in sets]
    losses = [
        model.loss_and_gradients(images, label, threads=1)
        for images, label in zip(sets, labels, strict=True)
    ]

    def work(first):
        for turn in range(30):
            i = (first + turn) % len(sizes)
            threads = 1 + turn % 3
            if turn % 2:
                found = model.forward(sets[i], threads=threads)
                np.testing.assert_array_equal(found, logits[i])
            else:
                loss, gradients = model.loss_and_gradients(
                    sets[i], labels[i], threads=threads
                )
                assert loss == losses[i][0]
                for name, gradient in gradients.items():
                    np.testing.assert_array_equal(gradient, losses[i][1][name])
        return True

    assert run_at_once(*[lambda i=i: work(i) for i in range(4)]) == [True] * 4


def test_two_models_train_at_once_as_one_after_the_other():
    images, labels = random_images(400, 0), np.arange(400) % 10

    def train(seed):
        model = lenet5c.lenet5(seed=seed)
        model.fit(images, labels, epochs=2, seed=seed, threads=2)
        return model.parameter_vector.tobytes()

    expected = [train(0), train(1)]
    assert run_at_once(lambda: train(0), lambda: train(1)) == expected


# Ctrl-C

INTERRUPTED = """
import sys
import numpy as np
import lenet5c

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (2_000, 28, 28), dtype=np.uint8)
labels = np.arange(2_000) % 10
model = lenet5c.lenet5()

class Tell:
    told = False
    def on_batch_end(self, state):
        if not self.told:
            self.told = True
            print("running", flush=True)

try:
    {call}
    print("went through")
except KeyboardInterrupt:
    print("interrupted", flush=True)
finite = np.isfinite(model.parameter_vector).all()
print(finite, model.predict(images[:5]).shape, flush=True)
print(len(model.fit(images, labels, epochs=1)), flush=True)
"""
CALLS = {
    "fit": (
        "model.fit(images, labels, epochs=100_000, batch_size=64, callbacks=[Tell()])"
    ),
    "fit of large batches": (
        "model.fit(np.tile(images, (10, 1, 1)), np.tile(labels, 10), "
        "epochs=100_000, batch_size=20_000, callbacks=[Tell()])"
    ),
    "fit with validation": (
        "model.fit(images, labels, epochs=100_000, batch_size=64, callbacks=[Tell()], "
        "validation=0.5, verbose=True)"
    ),
}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_stops_at_once_and_leaves_a_usable_model(call):
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(call=CALLS[call])],
        env=python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        # the fit would take hours: whoever waits for its end is stopped here
        timer = threading.Timer(HANG, process.kill)
        timer.start()
        try:
            assert process.stdout.readline() == "running\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert process.stdout.readline() == "True (5,)\n"
            assert process.stdout.readline() == "1\n"
            assert process.wait() == 0
        finally:
            timer.cancel()
            process.kill()


@pytest.fixture
def interrupt_after():
    """A function: Ctrl-C for this thread after so many seconds, by a timer."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


needs_timer = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="no setitimer here"
)


def slow_network(*, norm: bool = False) -> lenet5c.Model:
    """Some 60 million multiply-adds an image."""
    kind = [lenet5c.BatchNorm2d()] if norm else []
    return lenet5c.Model(
        [
            *(lenet5c.Conv2d(64, 3, padding=1), *kind, lenet5c.ReLU()),
            *(lenet5c.Conv2d(128, 3, padding=1), *kind, lenet5c.ReLU()),
            lenet5c.MaxPool2d(4),
            lenet5c.Dense(10),
        ],
        input_shape=(1, 28, 28),
    )


@needs_timer
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("engine", ["core", "runtime"])
def test_ctrl_c_ends_a_prediction_in_the_middle(engine, threads, interrupt_after):
    """What it would have written is not all there."""
    model = slow_network()
    images = random_images(4096, 0)[:, None]  # one call of the engine
    logits = np.zeros((4096, 10), np.float32)
    predictor = model.predictor()

    def predict_for_ever():
        while True:
            logits[:] = np.nan
            if engine == "core":
                stage = model.stage.for_core()
                vector = model.state_vector
                model._network.forward(vector, images, stage, logits, threads)
            else:
                predictor.predict_many(images, logits, None, threads, 1)

    interrupt_after(0.1)
    with pytest.raises(KeyboardInterrupt):
        predict_for_ever()
    assert np.isnan(logits[-1]).all()
    part = model.forward(images[:50], threads=threads)
    np.testing.assert_array_equal(part, model.forward(images[:50], threads=1))


@needs_timer
@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c_ends_a_batch_in_the_middle(threads, interrupt_after):
    """A batch that would take minutes; and the next one has the right gradient."""
    images, labels = random_images(300, 0), np.arange(300) % 10
    model = lenet5c.lenet5()
    before = model.state_vector.copy()
    expected = model.loss_and_gradients(images, labels, threads=1)
    codes, gradient = labels.astype(np.int32), np.empty_like(model.parameter_vector)
    indices = np.arange(20_000_000) % 300
    interrupt_after(0.3)
    with pytest.raises(KeyboardInterrupt):
        model.loss_of_batch(images[:, None], indices, codes, gradient, threads)
    np.testing.assert_array_equal(model.state_vector, before)
    found = model.loss_and_gradients(images, labels, threads=threads)
    assert found[0] == expected[0]
    for name, values in expected[1].items():
        np.testing.assert_array_equal(found[1][name], values, err_msg=name)


@needs_timer
@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c_ends_batches_that_go_together_between_two_steps(
    threads, interrupt_after
):
    """And the optimizer knows how many there were."""
    images, labels = random_images(300, 0), np.arange(300) % 10
    codes, indices = labels.astype(np.int32), np.arange(100_000) % 300

    def train(model, optimizer, batches):
        optimizer.prepare(model.parameter_vector)
        gradient, rates = np.empty_like(model.parameter_vector), [1e-3] * batches
        part = (images[:, None], indices[: 2 * batches], 2, codes)
        model.train_batches(*part, gradient, optimizer, rates, threads)

    model, optimizer = lenet5c.lenet5(), lenet5c.AdamW()
    gc.collect()  # what a callback of a weak reference raises is lost
    interrupt_after(0.1)
    with pytest.raises(KeyboardInterrupt):
        train(model, optimizer, 50_000)
    assert optimizer.steps > 0
    again = lenet5c.lenet5()
    train(again, lenet5c.AdamW(), optimizer.steps)
    np.testing.assert_array_equal(again.state_vector, model.state_vector)


@needs_timer
def test_ctrl_c_moves_all_running_statistics_or_none(interrupt_after):
    images, labels = random_images(200, 0), (np.arange(200) % 10).astype(np.int32)
    model = slow_network(norm=True)
    gradient = np.empty_like(model.parameter_vector)

    def step(forever=False):
        batch = (images[:, None], np.arange(200), labels, gradient, 2)
        model.loss_of_batch(*batch, measure=True)
        while forever:
            pass

    before = model.state_vector.copy()
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start  # where to aim at, and nothing more
    after = model.state_vector.copy()
    assert (after != before).any()
    for part in range(1, 10):
        model.state_vector[:] = before
        interrupt_after(seconds * part / 10)
        with pytest.raises(KeyboardInterrupt):
            step(forever=True)
        found = model.state_vector
        assert np.array_equal(found, before) or np.array_equal(found, after)


@needs_timer
def test_ctrl_c_while_images_are_augmented(interrupt_after):
    images = np.zeros((300_000, 28, 28), np.uint8)
    interrupt_after(0.2)
    with pytest.raises(KeyboardInterrupt):
        lenet5c.Augment(elastic=34).apply(images)


@needs_timer
def test_ctrl_c_in_a_short_step_is_answered_before_statistics_move(interrupt_after):
    """Not when the core has returned, as all but some microseconds are spent in it."""
    images, labels = random_images(8, 0), np.arange(8)
    model, optimizer = slow_network(norm=True), lenet5c.SGD()
    known = [model.state_vector.copy(), 0]

    def train():
        while True:
            model.train_step(images, labels, optimizer, threads=1)
            known[:] = model.state_vector.copy(), optimizer.steps

    half = 0
    for part in range(20):
        interrupt_after(0.03 + part / 700)
        with pytest.raises(KeyboardInterrupt):
            train()
        moved = not np.array_equal(model.state_vector, known[0])
        half += moved and optimizer.steps == known[1]
        known[:] = model.state_vector.copy(), optimizer.steps
    assert half <= 5


@pytest.mark.parametrize("average", [None, 0.9])
def test_an_interrupted_training_has_the_weights_of_its_best_epoch(
    average, small, small_images, labels
):
    """The second epoch's; the third one is worse, and the fourth does not end."""
    weights = []

    def watch(state):
        weights.append((state.validation_loss, small.parameter_vector.copy()))

    class Interrupt:
        def on_batch_end(self, state):
            if len(weights) == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small.fit(
            small_images,
            labels,
            epochs=9,
            batch_size=10,
            schedule=lambda step, of, _: 0.1 if step < 2 * of else -0.3,
            early_stopping=9,
            validation=(small_images, labels),
            weight_average=average,
            callbacks=[watch, Interrupt()],
        )
    best = min(range(4), key=lambda epoch: weights[epoch][0])
    assert best < 3
    np.testing.assert_array_equal(small.parameter_vector, weights[best][1])


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_at_most_one_batch_begins_after_ctrl_c(run_python):
    """The signal arrives while a batch is computed: it is raised when that is done."""
    code = """
import os, signal, threading
import numpy as np
import lenet5c

begun = []
class Spy(lenet5c.Model):
    def loss_of_batch(self, *arguments, **options):
        begun.append(sent.is_set())
        if len(begun) == 5:
            timer.start()
        return super().loss_of_batch(*arguments, **options)

def send():
    os.kill(os.getpid(), signal.SIGINT)
    sent.set()

sent = threading.Event()
timer = threading.Timer(0.05, send)
images = np.random.default_rng(0).integers(0, 256, (3000, 28, 28), dtype=np.uint8)
model = Spy(lenet5c.lenet5().layers, input_shape=(1, 32, 32))
try:
    model.fit(images, np.arange(3000) % 10, epochs=100_000, batch_size=3000)
except KeyboardInterrupt:
    print(sum(begun) <= 1)
"""
    assert run_python(code, timeout=HANG).stdout == "True\n"


def test_optimizer_steps_refuse_numbers_of_threads_that_openmp_cannot_have(run_python):
    """libgomp would end the process."""
    code = """
import numpy as np
import lenet5c

for threads in (-1, 0):
    for optimizer in (lenet5c.SGD(), lenet5c.AdamW()):
        w = np.ones(9_000, "f4")
        try:
            optimizer.step(w, w.copy(), 0.1, threads)
        except ValueError:
            pass
print("alive")
"""
    assert run_python(code, timeout=HANG).stdout == "alive\n"
