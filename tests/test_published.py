"""benchmarks/lenet5_1998.py: what it computes itself, and one quick run of it all."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lenet5c

PROGRAM = Path(__file__).parent.parent / "benchmarks" / "lenet5_1998.py"
pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(), reason="the tests are without their source tree"
)


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(PROGRAM.parent)


def test_the_networks_have_as_many_weights_as_the_papers():
    from published.networks import NETWORKS

    def weights(name):
        return NETWORKS[name].build(seed=0).parameter_count

    assert weights("LeNet-1") == 2578  # LeCun et al. 1990
    assert weights("LeNet-4") == 18_090
    assert weights("LeNet-5") == weights("after 5 changes") == 60_000
    assert weights("after 0 changes") == lenet5c.lenet5().parameter_count
    assert weights("300-100-10") == 266_610


def test_the_least_sure_are_rejected_and_no_more_than_needed():
    from published.page import rejected

    rng = np.random.default_rng(0)
    for error in (0, 0.01, 0.1, 0.5):
        probabilities = rng.dirichlet(np.full(10, 0.2), 200)
        top = np.sort(probabilities, axis=1)
        margins = top[:, -1] - top[:, -2]
        right = rng.uniform(size=200) < 0.5 + 0.5 * margins
        shares = [0.0]  # kept, at each threshold that is good enough
        for threshold in margins:
            kept = margins >= threshold
            if np.mean(~right[kept]) <= error:
                shares.append(kept.mean())
        found = rejected(probabilities, right, error)
        assert found == pytest.approx(1 - max(shares))


def test_a_pass_that_was_trained_again_counts_once(tmp_path):
    from published.trainings import Training

    one = Training("LeNet-5, eq. 8", 60_000, 20, distorted=True, seed=3)
    assert one.name == "lenet-5-eq8_distorted_60000_20passes_seed3"
    assert one.passes(tmp_path) == []
    lines = [{"epoch": epoch, "loss": k} for k, epoch in enumerate((1, 2, 3, 2, 3))]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    one.file(tmp_path, "jsonl").write_text(text, "utf-8")
    assert [line["loss"] for line in one.passes(tmp_path)] == [0, 3, 4]


def test_the_experiments_run_and_what_is_done_is_not_done_again(tmp_path):
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")

    def run():
        command = [sys.executable, PROGRAM, "--quick", "--data", "digits", "--folder"]
        done = subprocess.run([*command, "out"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    first = run()
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    for figure in ("passes", "sizes", "mistakes", "networks"):
        assert f'id="{figure}"' in page
    models = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.lenet5c")}
    assert len(models) == first.stderr.count("test error") == 22
    again, *others = models
    again.unlink()  # ended before it was written
    second = run()
    assert second.stderr.count("test error") == 1
    assert all(path.stat().st_mtime_ns == models[path] for path in others)
    assert again.exists()
    head = first.stdout.index("passes")
    assert second.stdout[head:] == first.stdout[head:]
