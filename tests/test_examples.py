"""The examples run as they are, in a folder of their own."""

import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from conftest import python_environment

import lenet5c

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(example: str, folder: Path, *arguments: str, **env: str) -> str:
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        cwd=folder,
        env=python_environment() | env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart_learns_the_digits_and_saves_them(tmp_path):
    pytest.importorskip("sklearn")
    said = run("quickstart.py", tmp_path, OMP_NUM_THREADS="1")
    assert "61,706" in said
    assert float(re.search(r"test accuracy (\S+)%", said)[1]) >= 95
    assert lenet5c.load(tmp_path / "digits.lenet5c").parameter_count == 61_706


def test_scikit_learn_searches_and_cross_validates(tmp_path):
    pytest.importorskip("sklearn")
    said = run("scikit_learn.py", tmp_path)
    assert float(re.search(r"test accuracy (\S+)%", said)[1]) >= 90
    assert float(re.search(r"cross-validation (\S+)%", said)[1]) >= 85


def test_many_trainings_are_the_same_by_joblib_and_by_dask(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("distributed")
    said = run("many_trainings.py", tmp_path, "--epochs", "1")
    assert re.findall(r"^0\.\S+", said, re.M) == ["0.01", "0.03", "0.1", "0.3"]
    best = (tmp_path / "best.lenet5c").read_bytes()
    assert run("many_trainings.py", tmp_path, "--epochs", "1", "--dask") == said
    assert (tmp_path / "best.lenet5c").read_bytes() == best


@pytest.fixture
def digits(tmp_path, images, labels):
    """A model in `digits.lenet5c` whose classes are letters."""
    letters = np.array(list("abcdefghij"))
    model = lenet5c.lenet5()
    model.fit(images, letters[labels], epochs=4, batch_size=4, threads=1)
    model.save(tmp_path / "digits.lenet5c")
    expected = model.predict(images)
    assert len(set(expected)) > 3
    return model


def labels_in(table: Path) -> dict[str, str]:
    """What score_pictures.py wrote: the label by number or file."""
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert all(0.1 < float(sure) <= 1 for *_, sure in rows)
    return {Path(name).stem: label for name, label, _ in rows}


def test_pictures_are_scored_from_an_array_and_from_a_folder(tmp_path, digits, images):
    pytest.importorskip("distributed")
    pil = pytest.importorskip("PIL.Image")
    np.save(tmp_path / "many.npy", np.tile(images, (300, 1, 1)))  # two batches
    run("score_pictures.py", tmp_path, "digits.lenet5c", "many.npy", "--workers", "1")
    expected = digits.predict(images).tolist()
    found = labels_in(tmp_path / "labels.csv")
    assert [found[str(number)] for number in range(18_000)] == 300 * expected
    for number, image in enumerate(images):
        folder = tmp_path / "pictures" / str(number % 3)
        folder.mkdir(parents=True, exist_ok=True)
        pil.fromarray(image).save(folder / f"{number}.png")
    pictures = "score_pictures.py", tmp_path, "digits.lenet5c", "pictures"
    run(*pictures, "--output", "f.csv")
    found = labels_in(tmp_path / "f.csv")
    assert [found[str(number)] for number in range(60)] == expected
    (tmp_path / "pictures" / "broken.png").write_bytes(b"none")
    with pytest.raises(AssertionError, match=r"broken\.png"):
        run(*pictures)


def command_of(file: str) -> str:
    """The command that the head of the example says builds or runs it."""
    lines = (EXAMPLES / file).read_text("utf-8").splitlines()
    return next(
        line.removeprefix(" *").strip()
        for line in lines
        if re.match(r"( \*)? +(cc|CFLAGS=\S*|python) ", line)
    )


def shell(command: str, folder: Path, stdin: bytes = b"") -> str:
    """What a command prints, with this Python's programs in the path."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=python_environment() | {"PATH": path},
        input=stdin,
        capture_output=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def build(file: str, folder: Path) -> None:
    """Copy the example to the folder and run the command at its head."""
    for program in ("cc", "lenet5c"):
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        if shutil.which(program, path=path) is None:
            pytest.skip(f"no {program}")
    shutil.copy(EXAMPLES / file, folder)
    shell(command_of(file), folder)


def test_the_c_program_classifies_what_it_reads(tmp_path, digits, images):
    build("classify.c", tmp_path)
    said = shell("./classify digits.lenet5c", tmp_path, images.tobytes())
    assert said.split() == digits.predict(images).tolist()
    assert shell("./classify digits.lenet5c", tmp_path) == ""
    with pytest.raises(AssertionError, match="last image has 10 of 784 bytes"):
        shell("./classify digits.lenet5c", tmp_path, images.tobytes()[:794])
    with pytest.raises(AssertionError, match="classify: no model file"):
        shell("./classify classify", tmp_path)


def test_the_openmp_program_counts_the_classes_of_an_idx_file(tmp_path, digits, images):
    build("classify_idx.c", tmp_path)
    many = np.tile(images, (20, 1, 1))
    head = b"\0\0\x08\x03" + struct.pack(">3I", *many.shape)
    (tmp_path / "many-idx3-ubyte").write_bytes(head + many.tobytes())
    said = shell("./classify_idx digits.lenet5c many-idx3-ubyte", tmp_path)
    predicted = digits.predict(many).tolist()
    assert said.splitlines() == [
        f"{name} {predicted.count(name)}" for name in digits.classes.tolist()
    ]
    (tmp_path / "short").write_bytes(head + many.tobytes()[1:])
    with pytest.raises(AssertionError, match="another size than it says"):
        shell("./classify_idx digits.lenet5c short", tmp_path)


def test_the_cython_module_classifies_windows(tmp_path, digits, images):
    pytest.importorskip("Cython")
    build("windows.pyx", tmp_path)
    frame = images[:12].reshape(3, 4, 28, 28).swapaxes(1, 2).reshape(84, 112)
    np.save(tmp_path / "frame.npy", frame)
    said = shell(
        f"{sys.executable} -c \"import numpy, windows; frame = numpy.load('frame.npy');"
        " print(*windows.classify('digits.lenet5c', frame, 28).ravel())\"",
        tmp_path,
    )
    assert said.split() == digits.predict(images[:12]).tolist()


def test_the_numba_loop_classifies_windows(tmp_path, digits, images):
    pytest.importorskip("numba")
    frame = images[:12].reshape(3, 4, 28, 28).swapaxes(1, 2).reshape(84, 112)
    np.save(tmp_path / "frame.npy", frame)
    command = command_of("windows_numba.py").split(maxsplit=1)[1]
    said = shell(f"{sys.executable} {EXAMPLES}/{command}", tmp_path)
    assert said.split() == digits.predict(images[:12]).tolist()
