"""Many trainings and predictions at a time, on engines that exist: the bits of one
process, no more threads than CPUs, small pickles, errors that reach the caller."""

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from many_jobs import bits, data, diverges, fails, threads_of_a_training, trained

import lenet5c
from lenet5c import LeNet5Classifier
from lenet5c._support.threads import resolve_threads

distributed = pytest.importorskip("distributed")

SEEDS = range(4)
BACKENDS = ["loky", "threading", "multiprocessing"]
DESCRIPTION = 4096  # bytes of a pickle beside the weights, at the most

# Dask warns of slow machines from its own threads, where an error would end its loop.
pytestmark = pytest.mark.filterwarnings("ignore")

needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="no list of a process's threads"
)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers of Dask's, processes with a thread each; joblib's backend "dask"."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


# The same bits


@pytest.mark.parametrize("backend", BACKENDS)
def test_trainings_by_joblib_have_the_bits_of_one_process(backend):
    found = joblib.Parallel(2, backend=backend)(joblib.delayed(bits)(s) for s in SEEDS)
    assert found == [bits(seed) for seed in SEEDS]
    assert len(set(found)) == len(SEEDS)


def test_trainings_by_dask_have_the_bits_of_one_process(client):
    found = client.gather(client.map(bits, SEEDS))
    assert found == [bits(seed) for seed in SEEDS]


def test_dask_trains_from_a_memory_mapped_file(client, tmp_path):
    images, labels = data()
    np.save(tmp_path / "images.npy", images)

    def of_file(path: str, seed: int) -> bytes:
        model = lenet5c.lenet5(seed=seed)
        model.fit(np.load(path, mmap_mode="r"), labels, epochs=2, seed=seed)
        return model.parameter_vector.tobytes()

    path = str(tmp_path / "images.npy")
    assert client.submit(of_file, path, 1).result() == bits(1)


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_a_search_on_workers_finds_what_one_process_finds(client, backend):
    from sklearn.model_selection import GridSearchCV

    images, labels = data()
    images, labels = images[:120], labels[:120]
    clf = LeNet5Classifier("mlp", max_iter=2, random_state=0)
    grid = {"learning_rate_init": [0.01, 0.05]}
    with joblib.parallel_config(backend, n_jobs=2):
        search = GridSearchCV(clf, grid, cv=2).fit(images, labels)
    alone = GridSearchCV(clf, grid, cv=2).fit(images, labels)
    for name in ("mean_test_score", "split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], alone.cv_results_[name])
    np.testing.assert_array_equal(
        search.predict_proba(images), alone.predict_proba(images)
    )


# Threads


@needs_proc
def test_a_worker_of_lokys_takes_its_share_of_the_cpus():
    found = joblib.Parallel(2)(joblib.delayed(threads_of_a_training)(s) for s in SEEDS)
    share = max(1, joblib.cpu_count() // 2)
    assert all(started < share for _, started in found)


@needs_proc
def test_a_worker_of_dasks_takes_one_thread(client):
    found = client.gather(client.map(threads_of_a_training, SEEDS))
    assert {started for _, started in found} == {0}


@needs_proc
def test_a_worker_of_a_pool_takes_one_thread(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        found = joblib.Parallel()(
            joblib.delayed(threads_of_a_training)(seed) for seed in SEEDS
        )
    assert {started for _, started in found} == {0}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(resolve_threads).result() == 1


BUSY = """
import os, sys, threading
import numpy as np, lenet5c
from lenet5c._support import threads

threads.usable_cpus = lambda: set(range(4))
threads.cpu_quota = lambda: 4
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (256, 28, 28), dtype=np.uint8)
labels, options = np.arange(256) % 10, eval(sys.argv[1])
together = threading.Barrier(2)
seen = []

def ran():
    "How often each thread of the process had a turn."
    turns = {}
    for name in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{name}/schedstat") as file:
            turns[name] = file.read().split()[2]
    return turns

def watch(state):
    if state.epoch in (8, 16):  # from 8 on each knows of the other
        if together.wait() == 0:
            seen.append(ran())
        together.wait()

def train():
    callbacks, batch = [watch], {"epochs": 16, "batch_size": 128}
    lenet5c.lenet5().fit(images, labels, callbacks=callbacks, **batch, **options)

both = [threading.Thread(target=train) for _ in range(2)]
for one in both: one.start()
for one in both: one.join()
print(sum(seen[0].get(name) != turns for name, turns in seen[1].items()))
"""


@pytest.mark.skipif(
    not os.path.exists("/proc/self/schedstat"),
    reason="turns of threads are not counted",
)
@pytest.mark.parametrize(("options", "threads"), [({}, 4), ({"threads": 4}, 8)])
def test_two_trainings_in_one_process_take_no_more_threads_than_cpus(
    run_python, options, threads
):
    code = f"import sys; sys.argv.append({str(options)!r})\n{BUSY}"
    assert int(run_python(code, OMP_NUM_THREADS="4").stdout) == threads


# Pickles


@pytest.fixture(scope="module")
def model() -> lenet5c.Model:
    """Trained, and used in every way that keeps something."""
    model = trained(0, epochs=5, validation=0.2)
    images, _ = data()
    model.predict(images)
    model.predict(images[:1])
    return model


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_pickles_have_the_weights_and_little_else(model, dumps):
    limit = model.state_vector.nbytes + DESCRIPTION
    predictor = model.predictor()
    predictor(data()[0][0])
    assert len(dumps(model)) < limit
    assert len(dumps(predictor)) < limit
    assert len(dumps(model.history)) < DESCRIPTION


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_fitted_classifier_is_pickled_with_its_weights_alone(solver):
    images, labels = data()
    clf = LeNet5Classifier(solver=solver, max_iter=2, random_state=0)
    assert len(pickle.dumps(clf)) < DESCRIPTION
    clf.fit(images, labels).predict(images)
    pickled = pickle.dumps(clf)
    assert len(pickled) < clf.model_.state_vector.nbytes + DESCRIPTION
    again = pickle.loads(pickled).partial_fit(images, labels)
    clf.partial_fit(images, labels)
    np.testing.assert_array_equal(
        again.model_.parameter_vector, clf.model_.parameter_vector
    )


def test_models_predict_the_same_in_another_process(client, model):
    images, labels = data()
    clf = LeNet5Classifier("mlp", max_iter=2, random_state=0).fit(images, labels)
    for call, of in (
        (lenet5c.Model.predict_proba, model),
        (LeNet5Classifier.predict_proba, clf),
        (lambda one, images: one.predict_proba(images[0]), model.predictor()),
    ):
        elsewhere = client.submit(call, client.scatter(of), images).result()
        np.testing.assert_array_equal(elsewhere, call(of, images))


# Errors


@pytest.mark.parametrize(
    ("job", "error", "message"),
    [
        (fails, ValueError, r"labels: expected .*200"),
        (diverges, lenet5c.TrainingError, "the loss became"),
    ],
)
def test_a_workers_error_reaches_the_caller(client, job, error, message):
    with pytest.raises(error, match=message):
        joblib.Parallel(2)(joblib.delayed(job)(number) for number in range(2))
    with pytest.raises(error, match=message):
        client.submit(job, 0).result()
