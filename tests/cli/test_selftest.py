"""`lenet5c selftest`: all is well here, and what is broken is named.

Faults are put into the child processes that check, before they begin.
"""

import json
import os
import subprocess
import sys

import int8_reference
import numpy as np
import pytest

from lenet5c._support.cores import available, isa
from lenet5c.cli import installation
from lenet5c.cli import main as cli
from lenet5c.layers import LAYERS, walk

HANG = 900  # seconds; it takes ten, on a quiet machine


@pytest.fixture
def some(monkeypatch, capsys):
    """Some of the checks with one core, after lines that break something: the exit code
    and the row of each check."""

    def run(checks, fault=""):
        monkeypatch.setattr(installation, "available", [isa])
        chosen = {name: installation.CHECKS[name] for name in checks}
        monkeypatch.setattr(installation, "CHECKS", chosen)
        first, imports, last = installation.CHILD.rpartition("from lenet5c")
        child = f"{first}from lenet5c.cli import installation\n{fault}{imports}{last}"
        monkeypatch.setattr(installation, "CHILD", child)
        code = cli.main(["selftest", "--json"])
        out, _ = capsys.readouterr()
        return code, {row["check"]: row for row in json.loads(out)["checks"]}

    return run


def check_fault(some, fault, wrong, message, right):
    """Just these checks fail, with this message."""
    code, rows = some([*wrong, *right], fault)
    failed = [name for name, row in rows.items() if row["result"] == "failed"]
    assert (code, set(failed)) == (1, set(wrong))
    for name in wrong:
        assert message in rows[name]["message"]


def test_all_is_well_here_and_json_says_so():
    """Of every core; a machine that is busy may be slow."""
    done = subprocess.run(
        [sys.executable, "-m", "lenet5c", "selftest", "--json"],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert (found["failed"], list(found)) == (0, ["version", "failed", "checks"])
    each = [name for name, check in installation.CHECKS.items() if check.each_core]
    once = [name for name in installation.CHECKS if name not in each]
    expected = [(name, core) for core in available for name in each]
    expected += [(name, isa) for name in once]
    assert [(row["check"], row["core"]) for row in found["checks"]] == expected
    for row in found["checks"]:
        assert list(row) == list(installation.Result._fields)
        assert row["result"] in ("ok", "slow")
        assert row["message"]


def test_the_table_has_a_row_for_each_check(monkeypatch, capsys):
    chosen = {"int8": installation.CHECKS["int8"]}
    monkeypatch.setattr(installation, "CHECKS", chosen)
    assert cli.main(["selftest"]) == 0
    out, err = capsys.readouterr()
    head, row, blank, last = out.splitlines()
    assert head.split() == ["check", "core", "compared", "result", "seconds"]
    assert row.startswith(f"int8   {isa}")
    assert blank == ""
    assert last.startswith("All is well, lenet5c ")
    assert err == f"int8 ({isa}): ok\n"


def test_what_others_print_is_no_result(some):
    fault = """
import os
os.write(1, b"a sitecustomize says {\\n \\xff without an end")
"""
    code, rows = some(["int8"], fault)
    assert (code, rows["int8"]["result"]) == (0, "ok")


# A class of Python's in place of the compiled network
NETWORK = """
from lenet5c._support.cores import core
class Broken(core.Network):
    def loss_and_gradient(self, *given, **options):
        found = super().loss_and_gradient(*given, **options)
        gradient, threads = given[5], given[6]
        {}
        return found
core.Network = Broken
"""


def test_a_wrong_gradient_fails_in_each_way_to_compute_it(some):
    fault = NETWORK.format("gradient[3] *= -1")
    wrong = [name for name in installation.CHECKS if name.startswith("layers")]
    check_fault(some, fault, [*wrong, "networks"], "gradient of ", ["int8"])


def test_a_loss_that_is_not_a_number_fails(some):
    fault = NETWORK.format("found = float('nan'), 0")
    wrong = ["layers, blockwise", "networks"]
    check_fault(some, fault, wrong, "loss: an error of nan", ["int8"])


def test_bits_that_depend_on_threads_fail(some):
    fault = NETWORK.format("gradient[:] *= 1 + 1e-7 * (threads == 3)")
    message = "lenet5: other bits on 3 threads than on one"
    check_fault(some, fault, ["threads"], message, ["layers, blockwise", "training"])


def test_a_training_that_does_not_learn_fails(some):
    fault = NETWORK.format("gradient[:] = 0")
    check_fault(some, fault, ["training"], "the loss should fall", ["threads"])


def test_outputs_of_the_core_that_are_wrong_fail(some):
    fault = """
from lenet5c._support.cores import core
class Broken(core.Network):
    def forward(self, *given):
        super().forward(*given)
        given[3][-1, 0] += 1e-3
core.Network = Broken
"""
    wrong = ["layers, blockwise", "layers, layerwise", "networks", "C runtime"]
    check_fault(some, fault, wrong, ": an error of", ["layers, imagewise", "fork"])


def test_another_rounding_of_int8_fails(some):
    fault = """
from lenet5c.deploy import int8
int8._rescale = lambda sums, multiplier, shift: sums * multiplier >> shift
"""
    check_fault(some, fault, ["int8"], "expected [[", ["fork"])


def test_a_damaged_file_that_is_read_fails(some):
    fault = """
from lenet5c.files import container
container._sha256 = lambda parts: "0" * 64
"""
    check_fault(some, fault, ["model file"], "is read all the same", ["int8"])


def test_a_forked_child_that_hangs_fails_in_time(some):
    fault = """
import os, time
parent, train = os.getpid(), installation._trained
def trained(threads):
    time.sleep(0 if os.getpid() == parent else 99)
    return train(threads)
installation._trained, installation.FORK = trained, 1
"""
    check_fault(some, fault, ["fork"], "has not trained in 1 s", ["int8"])


@pytest.mark.parametrize(
    ("made", "message"), [("b''", "other bits"), ("1 / 0", "the child has ended")]
)
def test_a_forked_child_with_other_bits_or_an_error_fails(some, made, message):
    fault = f"""
import os
parent, train = os.getpid(), installation._trained
def trained(threads):
    return train(threads) if os.getpid() == parent else {made}
installation._trained = trained
"""
    check_fault(some, fault, ["fork"], message, [])


def test_a_kind_without_a_network_fails_by_its_name(some):
    fault = """
from lenet5c.layers import LAYERS
LAYERS["whirl2d"] = None
"""
    wrong = ["layers, blockwise", "layers, imagewise"]
    check_fault(some, fault, wrong, "no network here has the kind whirl2d", ["int8"])


REPLACED = """
import os, signal, time
checks = installation.CHECKS
def replaced(): {}
checks["threads"] = checks["threads"]._replace(run=replaced)
"""


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the process was ended by SIGSEGV"),
        ("raise SystemExit('no more')", "the process ended with 1: no more"),
        ("os._exit(3)", "the process ended with 3"),
    ],
)
def test_what_ends_a_check_hides_no_other(some, does, message):
    right = ["C runtime", "training", "int8"]  # before it, behind it, elsewhere
    check_fault(some, REPLACED.format(does), ["threads"], message, right)


def test_a_check_that_hangs_is_ended(some, monkeypatch):
    monkeypatch.setattr(installation, "HANG", 3)
    fault = REPLACED.format("time.sleep(999)")
    check_fault(some, fault, ["threads"], "no answer in 3 s", [])


def test_a_core_that_cannot_be_imported_fails_with_its_error(some):
    fault = "raise ImportError('the core is damaged')\n"
    code, rows = some(["C runtime", "training"], fault)
    assert code == 1
    for row in rows.values():
        assert row["message"].endswith("ImportError: the core is damaged")


@pytest.mark.parametrize(("recorded", "result"), [(4000, "ok"), (4001, "slow")])
def test_slow_is_no_failure(some, recorded, result):
    fault = f"""
installation.training_speed = lambda *_: 1000.0
installation.inference_seconds = lambda *_: 1.0
installation.RECORDED["{isa}"] = (4000, {recorded})
installation.resolve_threads = lambda: 1
"""
    code, rows = some(["speed"], fault)
    assert (code, rows["speed"]["result"]) == (0, result)
    assert (
        "prediction 1,000 images/s, from 1,000 on expected"
        in (rows["speed"]["message"])
    )


def test_every_core_has_a_recorded_speed():
    assert set(available) <= set(installation.RECORDED)


def test_the_networks_have_every_kind_of_layer():
    found = {
        layer.kind
        for layers, shape in installation.SMALL.values()
        for layer, *_ in walk(layers, shape)
    }
    assert found == set(LAYERS)


def test_the_stored_integers_are_those_of_the_definition():
    model, images = installation.integers()
    quantized = model.quantize(images)
    layers = model.folded().layers
    expected = [int8_reference.scores(layers, quantized, image) for image in images]
    assert expected == installation.SCORES
    # and none of them comes from a scale that was measured
    other = model.quantize(255 - images)
    np.testing.assert_array_equal(other.scores(images), installation.SCORES)


def test_no_extra_is_needed():
    """Where nothing but NumPy can be imported."""
    code = """
import sys
for name in ("rich", "PIL", "matplotlib", "sklearn", "scipy", "onnx"):
    sys.modules[name] = None
from lenet5c.cli import installation
print([check.run() and name for name, check in installation.CHECKS.items()
       if name != "speed"] == [*installation.CHECKS][:-1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=True,
    )
    assert done.stdout == "True\n"
