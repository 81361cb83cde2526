"""ProgressBar: what training is doing, on stderr or in a notebook.

Each epoch gets a line when it ends. On a terminal there is a live line below them
(drawn by rich), in a notebook a bar of HTML. It is a callback of `fit`: the bar of
`verbose=True` and of the command line.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType
    from rich.live import Live

# A redraw costs about one millisecond, in which nothing trains.
SECONDS_BETWEEN_DRAWS = 0.125
WIDEST_BAR = 40


class TrainingProgress(Protocol):
    """The part of the training state that is shown."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    accuracy: float
    validation_accuracy: float | None
    images_per_second: float
    seconds: float
    images: int
    total_images: int


class ProgressBar:
    """Show the progress of `fit`: epoch, images/s, loss, accuracy, time left.

    Parameters
    ----------
    label : str
        Put before the epoch, to tell several runs apart.
    stream : text stream or None
        Where to write. None is the notebook's output, and where there is no notebook
        sys.stderr.

    Attributes
    ----------
    last : the training state after the last batch, None before the first.

    Examples
    --------
    >>> with ProgressBar() as bar:                                    # doctest: +SKIP
    ...     model.fit(images, labels, callbacks=[bar])
    """

    def __init__(self, label: str = "", *, stream: TextIO | None = None) -> None:
        self._label = f"{label}  " if label else ""
        self._in_notebook = stream is None and _in_notebook()
        self._stream = sys.stderr if stream is None else stream
        self.last: TrainingProgress | None = None
        self._live: Live | NotebookOutput | None = None
        self._opened = False
        self._next_draw = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    each_batch = False  # it need not see all

    def on_batch_end(self, state: TrainingProgress) -> None:
        """Redraw the live line, unless that was done a moment ago."""
        self.last = state
        if not self._opened:
            self._opened = True
            self._live = (
                NotebookOutput() if self._in_notebook else _live_line(self._stream)
            )
        if self._live is None or time.perf_counter() < self._next_draw:
            return
        if isinstance(self._live, NotebookOutput):
            self._live.update(self._html(state))
        else:
            self._live.start()
            width = self._live.console.width
            self._live.update(self._drawn(state, width), refresh=True)
        self._next_draw = time.perf_counter() + SECONDS_BETWEEN_DRAWS

    def on_epoch_end(self, state: TrainingProgress) -> None:
        """Write the epoch's line, and take the live one away after the last epoch."""
        self._next_draw = 0.0  # no bar of an earlier epoch below the line
        self.on_batch_end(state)
        line = epoch_line(state, self._label)
        if self._live is None:
            self._stream.write(line + "\n")
            self._stream.flush()
        elif isinstance(self._live, NotebookOutput):
            self._live.add(line)
        else:
            self._live.console.out(line, highlight=False)
        if state.epoch == state.epochs:
            self.close()

    def close(self) -> None:
        """Give the terminal back. A later batch opens the bar again."""
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._opened = False
        self._next_draw = 0.0

    def _html(self, state: TrainingProgress) -> str:
        """The bar for a notebook."""
        words, done, total, numbers = self._said(state, long=True)
        return (
            f"{escape(words)}  <progress value='{done}' max='{total}' "
            f"style='width:16em;vertical-align:middle'></progress>  {numbers}"
        )

    def _said(
        self, state: TrainingProgress, *, long: bool
    ) -> tuple[str, int, int, str]:
        """What is before the bar, the batches done, all of them, what is behind it."""
        done = (state.epoch - 1) * state.batches + state.batch
        total = state.epochs * state.batches
        left = timedelta(seconds=round(state.seconds / done * (total - done)))
        words = f"{self._label}{_epoch_of(state)}"
        numbers = (
            f"{state.images_per_second:,.0f} img/s  loss {state.loss:.4f}  "
            f"{'accuracy ' if long else ''}{state.accuracy:.2%}  {left} left"
        )
        return words, done, total, numbers

    def _drawn(self, state: TrainingProgress, width: int) -> RenderableType:
        """Return the live line for a terminal of `width` columns."""
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        words, done, total, numbers = self._said(state, long=width >= 100)
        # two blanks between the parts, and room at the end for the terminal's ^C
        room = width - len(words) - len(numbers) - 5
        line = Table.grid(padding=(0, 1))
        line.add_row(
            Text(words, no_wrap=True),
            Bar(total, done, width=max(1, min(room, WIDEST_BAR))),
            Text(numbers, no_wrap=True),
        )
        return line


def epoch_line(state: TrainingProgress, label: str = "") -> str:
    """Return one epoch as a line of plain text."""
    parts = [
        f"{label}{_epoch_of(state)}",
        f"loss {state.loss:.4f}",
        f"accuracy {state.accuracy:.2%}",
    ]
    if state.validation_accuracy is not None:
        parts.append(f"validation {state.validation_accuracy:.2%}")
    parts += [f"{state.images_per_second:,.0f} img/s", f"{state.seconds:.1f} s"]
    return "  ".join(parts)


def _epoch_of(state: TrainingProgress) -> str:
    return f"epoch {state.epoch:{len(str(state.epochs))}}/{state.epochs}"


def terminal(stream: TextIO) -> Console | None:
    """Return rich's console, None where it can draw nothing that moves."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(file=stream)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _in_notebook() -> bool:
    """Whether output goes to a notebook: IPython has a kernel there."""
    ipython = sys.modules.get("IPython")  # which is imported where there is one
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookOutput:
    """One output of a notebook's cell, which changes while the cell runs.

    It is HTML that needs no widgets, and text where HTML is not shown.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._bar = ""
        self._handle: Any = None

    def add(self, line: str) -> None:
        """Add a line above the bar."""
        self._lines.append(line)
        self._show()

    def update(self, bar: str) -> None:
        """Show another bar, in HTML."""
        self._bar = bar
        self._show()

    def stop(self) -> None:
        """Take the bar away."""
        if self._handle is not None:
            self.update("")

    def _show(self) -> None:
        from IPython.display import display

        text = "\n".join(self._lines)
        newline = "\n" * bool(text and self._bar)
        # The box scrolls, and begins at its end.
        html = (
            '<div style="max-height:22em;overflow:auto;display:flex;'
            'flex-direction:column-reverse"><pre style="margin:0;font-size:.9em">'
            f"{escape(text)}{newline}{self._bar}</pre></div>"
        )
        data = {"text/plain": text, "text/html": html}
        if self._handle is None:
            self._handle = display(  # type: ignore[no-untyped-call,unused-ignore]
                data, raw=True, display_id=True
            )
        else:
            self._handle.update(data, raw=True)


def _live_line(stream: TextIO) -> Live | None:
    """Return rich's live display, or None where it cannot be."""
    console = terminal(stream)
    if console is None:
        return None
    from rich.live import Live

    return Live(
        console=console,
        transient=True,
        auto_refresh=False,  # no thread that competes with training
        redirect_stdout=sys.stdout.isatty(),  # piped results stay on stdout
    )
