"""A notebook, run by a kernel: what appears in it."""

import pytest
from conftest import python_environment

TRAIN = """
import numpy as np
import lenet5c
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (300, 28, 28), dtype=np.uint8)
model = lenet5c.lenet5()
history = model.fit(images, np.arange(300) % 10, epochs=30, verbose=True, threads=1)
"""


@pytest.fixture(scope="module")
def run():
    """Run cells in a kernel of their own; the outputs of each."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")

    def run(*cells):
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells]
        )
        client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
        client.execute(env=python_environment())
        return [cell.outputs for cell in notebook.cells]

    return run


@pytest.mark.parametrize("without", ["", "rich", "ipywidgets"])
def test_training_is_one_output_that_changes_and_no_red_text(run, without):
    hide = f"import sys; sys.modules[{without!r}] = None" if without else ""
    _, (output,) = run(hide, TRAIN)
    assert output.output_type == "display_data"
    lines = output.data["text/plain"].splitlines()
    assert len(lines) == 30  # each epoch once
    assert lines[-1].startswith("epoch 30/30  loss ")
    assert output.data["text/html"].count("epoch ") == 30
    assert "<progress" not in output.data["text/html"]  # it has ended


def test_a_bar_stands_there_while_training_runs(run):
    look = """
from lenet5c._support import progress
shown = []
update = progress.NotebookOutput.update
def watched(self, bar):
    shown.append(bar)
    update(self, bar)
progress.NotebookOutput.update = watched
"""
    *_, (output,) = run(look + TRAIN, "print(shown[0], shown[-1] == '')")
    assert "<progress value='1' max='150'" in output.text
    assert output.text.endswith("left True\n")


def test_figures_and_objects_are_shown_once(run):
    pytest.importorskip("matplotlib")
    curves = "history.plot()"
    outputs = run(
        TRAIN,
        curves,
        "figure = history.plot()",
        "import matplotlib.pyplot",
        curves,
        "history",
        "model",
    )
    for shown in (outputs[1], outputs[4]):
        (output,) = shown
        assert output.output_type == "execute_result"
        assert "image/png" in output.data
    assert outputs[2] == outputs[3] == []
    for (output,) in outputs[5:]:
        assert "<svg" in output.data["text/html"]
