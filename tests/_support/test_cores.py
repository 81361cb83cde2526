"""The best core that the machine can run is chosen, or the one that is asked for."""

import json

import numpy as np
import pytest

import lenet5c
from lenet5c._support import cores as _core
from lenet5c.graph import for_core, lower

TRAIN = """
import json
import numpy as np
import lenet5c

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (70, 28, 28), dtype=np.uint8)
model = lenet5c.lenet5()
model.fit(images, np.arange(70) % 10, epochs=2, batch_size=32, threads=2)
info = lenet5c.build_info()
loaded = [m for m in __import__("sys").modules if m.startswith("lenet5c._core_")]
print(json.dumps([info, loaded, model.forward(images[:20]).tolist()]))
"""
LANES = {"avx512": 16, "avx2": 8, "baseline": 4}


@pytest.fixture(scope="module")
def baseline_logits() -> list[np.ndarray]:
    return []


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_each_core_trains_and_predicts_alike(isa, run_python, baseline_logits):
    if isa not in _core.available:
        pytest.skip(f"this machine or installation has no {isa}")
    done = run_python(TRAIN, LENET5C_ISA=isa)
    info, loaded, logits = json.loads(done.stdout)
    assert info["isa"] == isa
    assert info["lanes"] in (LANES[isa], 1)
    assert loaded == [f"lenet5c._core_{isa}"]  # and no other
    assert info["available"] == _core.available
    baseline_logits.append(np.array(logits))
    np.testing.assert_allclose(baseline_logits[-1], baseline_logits[0], atol=1e-4)


@pytest.mark.parametrize("isa", ["sse9", "AVX2", " avx2", "baseline,avx2", "../x"])
def test_an_unknown_core_is_a_clear_error(isa, run_python):
    done = run_python("import lenet5c; lenet5c.lenet5()", check=False, LENET5C_ISA=isa)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: LENET5C_ISA={isa!r}: this installation")
    assert "baseline" in last


WITHOUT_AVX = """
import sys, types
cpu = types.ModuleType("lenet5c._cpu")
cpu.instruction_sets = lambda: ["baseline"]
sys.modules["lenet5c._cpu"] = cpu
import lenet5c
print(lenet5c.build_info()["isa"], lenet5c.build_info()["available"])
"""


def test_a_core_that_the_machine_cannot_run_is_a_clear_error(run_python):
    done = run_python(WITHOUT_AVX, check=False, LENET5C_ISA="avx512")
    assert done.returncode == 1
    expected = "LENET5C_ISA='avx512': this installation and machine can run baseline"
    assert expected in done.stderr.splitlines()[-1]


def test_an_old_machine_gets_the_baseline(run_python):
    for isa in ("", "baseline"):
        done = run_python(WITHOUT_AVX, LENET5C_ISA=isa)
        assert done.stdout == "baseline ['baseline']\n"


def test_an_installation_without_cores_is_a_clear_error(run_python):
    code = WITHOUT_AVX.replace('["baseline"]', "[]")
    done = run_python(code, check=False, LENET5C_ISA="")
    assert "ImportError: lenet5c was installed without" in done.stderr


def test_the_best_core_is_chosen(run_python):
    code = "import lenet5c; print(lenet5c.build_info()['isa'])"
    assert run_python(code, LENET5C_ISA="").stdout.strip() == _core.available[0]


def test_build_info_has_the_documented_keys():
    info = lenet5c.build_info()
    assert list(info) == [
        *("version", "isa", "available", "lanes"),
        *("threading", "openmp", "threads", "compiler"),
    ]
    assert info["version"] == lenet5c.__version__
    assert info["isa"] in info["available"]
    assert "baseline" in info["available"]
    assert info["threads"] >= 1
    assert info["threading"] in ("POSIX", "Windows", "none")
    assert isinstance(info["openmp"], bool)
    assert info["compiler"]
    assert json.loads(json.dumps(info)) == info
    info["available"].clear()
    assert lenet5c.build_info()["available"]


def test_import_alone_loads_neither_the_core_nor_numpy(run_python):
    code = """
import sys
import lenet5c
print([m for m in sys.modules if m.startswith("lenet5c.") or m == "numpy"])
"""
    assert run_python(code, LENET5C_ISA="no such core").stdout == "[]\n"


def test_import_loads_nothing_heavy(run_python):
    code = """
import sys
import numpy
its = set(sys.modules)
import lenet5c
lenet5c.lenet5()
heavy = {"sklearn", "scipy", "rich", "matplotlib", "PIL", "torch", "onnx", "pandas",
         "multiprocessing", "subprocess"}
print(sorted(heavy & set(sys.modules) - its))
"""
    assert run_python(code).stdout == "[]\n"


def test_get_include_has_the_headers():
    from pathlib import Path

    assert (Path(lenet5c.get_include()) / "lanes.h").is_file()


def test_everything_promised_is_there_and_nothing_else():
    for name in lenet5c.__all__:
        assert hasattr(lenet5c, name)
    assert dir(lenet5c) == sorted(lenet5c.__all__)
    namespace: dict[str, object] = {}
    exec("from lenet5c import *", namespace)
    assert namespace.keys() - {"__builtins__"} == set(lenet5c.__all__)


def test_all_can_be_imported_without_the_extras(run_python):
    code = """
import sys
for name in ("sklearn", "rich", "PIL", "scipy", "matplotlib", "onnx"):
    sys.modules[name] = None
from lenet5c import *
print(callable(lenet5), "LeNet5Classifier" in globals())
import lenet5c
try:
    lenet5c.LeNet5Classifier
except ImportError as error:
    print(error)
"""
    assert run_python(code).stdout.splitlines() == [
        "True False",
        "LeNet5Classifier needs scikit-learn: pip install 'lenet5c[sklearn]'",
    ]


def test_a_module_is_an_attribute_without_its_own_import(run_python):
    code = """
import lenet5c
print(lenet5c.plots.__name__, lenet5c.datasets.find.__name__)
print(lenet5c.load is lenet5c.model.load, lenet5c.SGD is lenet5c.optimizers.SGD)
"""
    first, second = run_python(code).stdout.splitlines()
    assert first == "lenet5c.plots find"
    assert second == "True True"


def test_a_kind_that_the_core_lacks_is_refused_by_name():
    shape = (1, 4, 4)
    spec = {"kind": "cube", "input_shape": shape, "output_shape": shape}
    with pytest.raises(ValueError, match=r"core has no kernel .* kind 'cube'"):
        _core.core.Network([spec], shape)
    nodes = for_core(lower([lenet5c.Dense(3, name="d")], shape))
    with pytest.raises(ValueError, match=r"core has no kernel .* kind 'cube'"):
        _core.core.Network([nodes[0] | {"activation": "cube"}], shape)


def test_what_needs_the_whole_batch_is_refused_blockwise():
    shape = (2, 4, 4)
    nodes = for_core(lower([lenet5c.BatchNorm2d(name="norm")], shape))
    assert _core.core.Network(nodes, shape).state_count == 8
    with pytest.raises(ValueError, match="'batch_norm2d' runs layerwise alone"):
        _core.core.Network(nodes, shape, layerwise=False)
