"""Small things that several test files share."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lenet5c
from lenet5c import AvgPool2d, Conv2d, Dense, Tanh


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, so that a child process that looks in its own finds the
    installed package and not the source tree, and no test leaves files behind."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> None:
    """Let tests interrupt their child processes even where this process was started in
    the background: a shell has it ignore Ctrl-C then, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def images() -> np.ndarray:
    """(60, 28, 28) uint8, every class with a pattern of its own under the noise."""
    rng = np.random.default_rng(7)
    patterns = rng.integers(0, 200, (10, 28, 28))
    noise = rng.integers(0, 56, (60, 28, 28))
    return (patterns[np.arange(60) % 10] + noise).astype(np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    """Labels of `images`: (60,) int64, 0 to 9."""
    return np.arange(60) % 10


@pytest.fixture
def small() -> lenet5c.Model:
    """A quick network with a layer of each sort: 1@12x12, 10 classes."""
    return lenet5c.Model(
        [
            Conv2d(3, 5, name="A"),  # 1@12x12 -> 3@8x8
            Tanh(),
            AvgPool2d(2, name="B"),  # -> 3@4x4
            Dense(10, name="D"),
        ],
        input_shape=(1, 12, 12),
        seed=3,
    )


@pytest.fixture
def small_images(images: np.ndarray) -> np.ndarray:
    """(60, 12, 12) uint8, for `small`."""
    return np.ascontiguousarray(images[:, 8:20, 8:20])


@pytest.fixture(scope="session")
def mnist() -> lenet5c.datasets.Dataset:
    """The real MNIST, where LENET5C_DATA names a folder that has it."""
    if not os.environ.get("LENET5C_DATA"):
        pytest.skip("LENET5C_DATA does not name a folder that holds mnist/")
    return lenet5c.datasets.mnist()


@pytest.fixture(scope="session")
def mnist_model(mnist: lenet5c.datasets.Dataset) -> lenet5c.Model:
    """LeNet-5, trained for an epoch on MNIST. Not to be changed."""
    model = lenet5c.lenet5()
    model.fit(*mnist.train, epochs=1, threads=1)  # other processes may be busy
    return model


@pytest.fixture
def digest() -> Callable[[lenet5c.Model], str]:
    """SHA-256 of all that `fit` may change in a model."""

    def of(model: lenet5c.Model) -> str:
        rest = (model.classes.tolist(), model.stage, model.source, model.fitted)
        data = model.parameter_vector.tobytes() + repr(rest).encode()
        return hashlib.sha256(data).hexdigest()

    return of


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code in a Python of its own, which finds the package that is tested."""

    def run(
        code: str, *, timeout: float = 60, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
            env=python_environment() | env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Selenium; whoever uses it opens a page first."""
    selenium = pytest.importorskip("selenium.webdriver")
    program, driver = (shutil.which(n) for n in ("chromium", "chromedriver"))
    if program is None or driver is None:
        pytest.skip("no chromium or no chromedriver: the page is not tested")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"),
        *("--disable-gpu", "--hide-scrollbars", "--window-size=1280,900"),
        *("--force-device-scale-factor=1",),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driven = selenium.Chrome(options, selenium.ChromeService(driver))
    driven.set_script_timeout(60)
    yield driven
    driven.quit()


def python_environment() -> dict[str, Any]:
    """The environment, in which `import lenet5c` finds the package that is tested."""
    folder = str(Path(lenet5c.__file__).parents[1])
    return dict(os.environ) | {"PYTHONPATH": folder}
