"""ProgressBar: what training is doing, on stderr.

On a terminal one live line (drawn by rich); elsewhere, or without rich, one plain line
an epoch. It is a callback of `fit`: the bar of `verbose=True` and of the command line.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TextIO

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
    transient : bool
        Erase the live line when training has ended.
    stream : text stream, default sys.stderr
        Where to write.

    Attributes
    ----------
    last : the training state after the last batch, None before the first.

    Examples
    --------
    >>> with ProgressBar() as bar:                                    # doctest: +SKIP
    ...     model.fit(images, labels, callbacks=[bar])
    """

    def __init__(
        self, label: str = "", *, transient: bool = False, stream: TextIO | None = None
    ) -> None:
        self._label = f"{label}  " if label else ""
        self._transient = transient
        self._stream = sys.stderr if stream is None else stream
        self.last: TrainingProgress | None = None
        self._live: Live | None = None
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

    def on_batch_end(self, state: TrainingProgress) -> None:
        """Redraw the live line, unless that was done a moment ago."""
        self.last = state
        if not self._opened:
            self._opened = True
            self._live = _live_line(self._stream, self._transient)
        if self._live is None or time.perf_counter() < self._next_draw:
            return
        self._live.start()
        self._live.update(self._drawn(state, self._live.console.width), refresh=True)
        self._next_draw = time.perf_counter() + SECONDS_BETWEEN_DRAWS

    def on_epoch_end(self, state: TrainingProgress) -> None:
        """Write the epoch's plain line, or finish the live one after the last epoch."""
        last = state.epoch == state.epochs
        if last:
            self._next_draw = 0.0
        self.on_batch_end(state)
        if self._live is None:
            self._stream.write(epoch_line(state, self._label) + "\n")
            self._stream.flush()
        if last:
            self.close()

    def close(self) -> None:
        """Give the terminal back. A later batch opens the bar again."""
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._opened = False
        self._next_draw = 0.0

    def _drawn(self, state: TrainingProgress, width: int) -> RenderableType:
        """Return the live line for a terminal of `width` columns."""
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        done = (state.epoch - 1) * state.batches + state.batch
        total = state.epochs * state.batches
        left = timedelta(seconds=round(state.seconds / done * (total - done)))
        word = "accuracy " if width >= 100 else ""
        words = f"{self._label}{_epoch_of(state)}"
        numbers = (
            f"{state.images_per_second:,.0f} img/s  loss {state.loss:.4f}  "
            f"{word}{state.accuracy:.2%}  "
            + (f"{left} left" if done < total else f"{state.seconds:.1f} s")
        )
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


def _live_line(stream: TextIO, transient: bool) -> Live | None:
    """Return rich's live display, or None where it cannot be."""
    console = terminal(stream)
    if console is None:
        return None
    from rich.live import Live

    return Live(
        console=console,
        transient=transient,
        auto_refresh=False,  # no thread that competes with training
        redirect_stdout=sys.stdout.isatty(),  # piped results stay on stdout
    )
