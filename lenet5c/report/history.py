"""History: what training found, epoch by epoch."""

import math
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.text import counted
from lenet5c.display import Displayed, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History", "read_history"]

MAX_EPOCHS_SHOWN = 10
MAX_ENTRIES = 1000  # of a model's history: more than a picture has columns for
Path = str | os.PathLike[str]


@dataclass(repr=False)
class History(Displayed):
    """What `fit` returns: lists with one entry for each epoch.

    Notebooks show the curves (with matplotlib) and the last epochs.

    Attributes
    ----------
    loss, accuracy : list of float
        Mean over the epoch's images, each seen by the weights of its time, with the
        augmentation, label smoothing and weights of images that training had. The loss
        is the one that was minimised.
    validation_loss, validation_accuracy : list of float
        After the epoch; empty without validation. The loss is the cross-entropy,
        whatever was minimised.
    learning_rate : list of float
        Of the epoch's last batch.
    seconds : list of float
        The epoch's duration, validation excluded.
    images_per_second : list of float
        Training images over `seconds`.
    epoch : list of int
        The number of each entry's epoch; empty where these are 1, 2, 3 and so on.

    Examples
    --------
    >>> history = lenet5c.History(loss=[0.5, 0.25], accuracy=[0.8, 0.9])
    >>> len(history), history.epochs()
    (2, [1, 2])
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    images_per_second: list[float] = field(default_factory=list)
    epoch: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        epochs = counted(len(self), "epoch")
        if not self.loss:
            return f"<History of {epochs}>"
        facts = f"loss {self.loss[-1]:.4f}"
        if self.accuracy:
            facts += f", accuracy {self.accuracy[-1]:.2%}"
        if not math.isnan(validation := (self.validation_accuracy or [math.nan])[-1]):
            facts += f", validation {validation:.2%}"
        return f"<History of {epochs}: {facts}>"

    def __len__(self) -> int:
        """How many epochs there are entries of."""
        return len(self.loss)

    def epochs(self) -> list[int]:
        """The number of each entry's epoch, from 1.

        Examples
        --------
        >>> lenet5c.History(loss=[0.5, 0.4], epoch=[1, 5]).epochs()
        [1, 5]
        """
        return list(self.epoch) or list(range(1, len(self) + 1))

    def to_dict(self) -> dict[str, list[float]]:
        """The lists by name; `epoch` only if it is not empty.

        Returns
        -------
        dict of str to list of float

        Examples
        --------
        >>> lenet5c.History(loss=[0.5, 0.25]).to_dict()["loss"]
        [0.5, 0.25]
        """
        lists = {item.name: list(getattr(self, item.name)) for item in fields(self)}
        if not self.epoch:
            del lists["epoch"]
        return lists

    @classmethod
    def from_dict(cls, lists: Mapping[str, Sequence[float | None]]) -> "History":
        """The opposite of `to_dict`; None, which is what JSON has for NaN, is NaN.

        Parameters
        ----------
        lists : mapping of str to sequence of float or None

        Returns
        -------
        History

        Examples
        --------
        >>> lenet5c.History.from_dict({"loss": [0.5], "epoch": [3]}).epochs()
        [3]
        """
        columns = {
            name: [math.nan if value is None else value for value in column]
            for name, column in lists.items()
        }
        epoch = [int(number) for number in columns.pop("epoch", ())]
        return cls(**columns, epoch=epoch)

    def joined(self, later: "History", start: int) -> "History":
        """This history up to the epoch `start`, and a later training behind it.

        Parameters
        ----------
        later : History
            Its first epoch is `start` + 1.
        start : int

        Returns
        -------
        History
            A new one. What only one of both has is NaN for the other. Where there
            would be more than 1,000 epochs from the first to the last, those between
            are thinned: every second epoch, every fourth and so on.

        Examples
        --------
        >>> first = lenet5c.History(loss=[0.5, 0.4], accuracy=[0.8, 0.9])
        >>> first.joined(lenet5c.History(loss=[0.3], accuracy=[0.9]), 2).loss
        [0.5, 0.4, 0.3]
        """
        numbers = self.epochs()
        kept = bisect_right(numbers, start)
        numbers = numbers[:kept] + [start + epoch for epoch in later.epochs()]
        lists: dict[str, list[Any]] = {}
        for name in History().to_dict():
            before, after = getattr(self, name)[:kept], getattr(later, name)
            if before or after:
                before = before or [math.nan] * kept
                lists[name] = before + (after or [math.nan] * len(later))
        lists["epoch"] = numbers
        if (step := _step(numbers)) > 1:
            first, last = numbers[0], numbers[-1]
            here = [n == last or (n - first) % step == 0 for n in numbers]
            lists = {name: list(compress(x, here)) for name, x in lists.items()}
        if lists["epoch"] == list(range(1, len(lists["epoch"]) + 1)):
            del lists["epoch"]
        return History(**lists)

    def to_json(self, path: Path | None = None) -> str:
        """The lists as a JSON object, also written to `path`; not finite is null.

        Parameters
        ----------
        path : path-like or None

        Returns
        -------
        str

        Examples
        --------
        >>> import json
        >>> history = lenet5c.History(loss=[0.5, float("nan")])
        >>> json.loads(history.to_json("history.json"))["loss"]
        [0.5, None]
        """
        import json  # here: not every program needs it

        values = {
            name: [value if math.isfinite(value) else None for value in column]
            for name, column in self.to_dict().items()
        }
        return _written(json.dumps(values, indent=2) + "\n", path)

    def to_csv(self, path: Path | None = None) -> str:
        """A table with a row for each epoch, also written to `path`.

        The columns are `epoch`, from 1, and the lists that are not empty. The numbers
        are exact: reading them gives the same floats.

        Parameters
        ----------
        path : path-like or None

        Returns
        -------
        str

        Examples
        --------
        >>> print(lenet5c.History(loss=[0.5, 0.25], accuracy=[0.75, 1.0]).to_csv())
        epoch,loss,accuracy
        1,0.5,0.75
        2,0.25,1.0
        <BLANKLINE>
        """
        lists = {"epoch": self.epochs(), **self.to_dict()}
        columns = {n: column for n, column in lists.items() if column or n == "epoch"}
        rows = [",".join(columns)]
        for values in zip(*columns.values(), strict=True):
            rows.append(",".join(map(repr, values)))
        return _written("\n".join(rows) + "\n", path)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The lists by name as (epochs,) float64 arrays; empty ones are left out.

        Returns
        -------
        dict of str to (epochs,) float64

        Examples
        --------
        >>> arrays = lenet5c.History(loss=[0.5, 0.25]).arrays()
        >>> list(arrays), arrays["loss"].shape
        (['loss'], (2,))
        """
        return {
            name: np.array(column, np.float64)
            for name, column in self.to_dict().items()
            if column
        }

    def plot(self, path: Path | None = None) -> "Figure":
        """Loss and accuracy over the epochs, also written to `path` as an image.

        Parameters
        ----------
        path : path-like or None

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib.

        Examples
        --------
        >>> history = lenet5c.History(loss=[0.5, 0.25], accuracy=[0.75, 1.0])
        >>> [panel.get_title() for panel in history.plot("history.png").axes]
        ['Loss', 'Accuracy, %']
        """
        from lenet5c.report.curves import plot_history

        return plot_history(self, path)

    def _table(self) -> Table:
        forms = {
            "loss": ("loss", "{:.4f}"),
            "accuracy": ("accuracy", "{:.2%}"),
            "validation_loss": ("val. loss", "{:.4f}"),
            "validation_accuracy": ("val. accuracy", "{:.2%}"),
            "learning_rate": ("learning rate", "{:.3g}"),
            "images_per_second": ("img/s", "{:,.0f}"),
            "seconds": ("seconds", "{:.2f}"),
        }
        lists, numbers = self.to_dict(), self.epochs()
        some = [name for name in forms if len(lists[name]) == len(self) > 0]
        first = max(0, len(self) - MAX_EPOCHS_SHOWN)
        rows = []
        for k in range(first, len(self)):
            values = ((forms[name][1], lists[name][k]) for name in some)
            known = ("" if math.isnan(x) else form.format(x) for form, x in values)
            rows.append([f"{numbers[k]}", *known])
        title = f"History: {counted(len(self), 'epoch')}"
        if not self.epoch and math.isfinite(seconds := sum(self.seconds)) and seconds:
            title += f", {seconds:.1f} s"  # of all, and not of what was read or stayed
        title += f"; the last {MAX_EPOCHS_SHOWN}" * (first > 0)
        return Table(title, ["epoch", *(forms[name][0] for name in some)], rows)

    def _drawn(self) -> str:
        if len(self) < 2:  # a curve of one point
            return ""
        import zlib

        from lenet5c.report.canvas import svg_in_any_page

        try:
            figure = self.plot()
        except ImportError:  # the table says it too
            return ""
        # Of several pictures in a notebook each needs identifiers of its own.
        name = f"history-{zlib.crc32(repr(self.to_dict()).encode()):08x}"
        return svg_in_any_page(figure, name, "loss and accuracy, epoch by epoch")


def read_history(path: Path) -> dict[str, list[float | None]]:
    """The lists of a training, from its log or from `History.to_json`.

    Parameters
    ----------
    path : path-like
        JSON Lines with an object an epoch, as `fit(log=...)` writes them: of an epoch
        that is there twice, after a training was resumed, the last counts. Half a line
        at the end, as a crash leaves it, is left out. Or one JSON object of lists.

    Raises
    ------
    ValueError
        If the file holds something else; names file and line.
    OSError
        If it cannot be read.
    """
    import json  # here: not every program needs it

    name = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: expected text in UTF-8; {error}") from error
    known = list(History().to_dict())
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("loss"), list):
        lists = {key: whole[key] for key in [*known, "epoch"] if key in whole}
        if not all(isinstance(v, list) and _numbers(v) for v in lists.values()):
            raise ValueError(f"{name}: expected lists of numbers")
        return lists
    epochs: dict[int, dict[str, Any]] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and epochs and not text.endswith("\n"):
                break
            raise ValueError(
                f"{name}: line {number}: expected JSON; {error}"
            ) from error
        if (
            not isinstance(entry, dict)
            or type(entry.get("epoch")) is not int
            or not _numbers(entry.get(key) for key in known)
        ):
            raise ValueError(
                f"{name}: line {number}: expected an object with 'epoch' and numbers, "
                f"got {line!r:.80}"
            )
        epochs = {k: v for k, v in epochs.items() if k < entry["epoch"]}
        epochs[entry["epoch"]] = entry
    return {
        key: [entry.get(key) for entry in epochs.values()]
        for key in known
        if any(entry.get(key) is not None for entry in epochs.values())
    }


def _numbers(values: Iterable[object]) -> bool:
    """Whether each is a number that float has, or None."""
    return all(
        v is None or type(v) is float or (type(v) is int and abs(v) < 2**53)
        for v in values
    )


def _step(numbers: list[int]) -> int:
    """From one epoch that stays to the next. It hangs on the first and the last alone,
    and a larger step keeps of what a smaller one has left: the same epochs stay,
    whatever was left out before."""
    step, apart = 1, numbers[-1] - numbers[0] if numbers else 0
    while -(-apart // step) + 1 > MAX_ENTRIES:
        step *= 2
    return step


def _written(text: str, path: Path | None) -> str:
    if path is not None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    return text
