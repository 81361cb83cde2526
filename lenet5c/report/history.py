"""History: what training found, epoch by epoch."""

import math
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet5c.display import Displayed, Table, counted, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History"]

Path = str | os.PathLike[str]


MAX_EPOCHS_SHOWN = 10


@dataclass(repr=False)
class History(Displayed):
    """What `fit` returns: lists with one entry for each epoch.

    Notebooks show the curves (with matplotlib) and the last epochs.

    Attributes
    ----------
    loss, accuracy : list of float
        Mean over the epoch's images, each seen by the weights of its time, with the
        augmentation, label smoothing and weights of images that training had.
    validation_loss, validation_accuracy : list of float
        After the epoch; empty without validation.
    learning_rate : list of float
        Of the epoch's last batch.
    seconds : list of float
        The epoch's duration, validation excluded.
    images_per_second : list of float
        Training images over `seconds`.

    Examples
    --------
    >>> history = lenet5c.lenet5().fit(images, labels, epochs=3, validation=0.2)
    >>> len(history), len(history.loss), len(history.validation_accuracy)
    (3, 3, 3)
    >>> history.loss[2] < history.loss[0]
    True
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    images_per_second: list[float] = field(default_factory=list)

    def __repr__(self) -> str:
        epochs = counted(len(self), "epoch")
        if not self.loss:
            return f"<History of {epochs}>"
        facts = f"loss {self.loss[-1]:.4f}, accuracy {self.accuracy[-1]:.2%}"
        if self.validation_accuracy:
            facts += f", validation {self.validation_accuracy[-1]:.2%}"
        return f"<History of {epochs}: {facts}>"

    def __len__(self) -> int:
        """How many epochs were trained."""
        return len(self.loss)

    def to_dict(self) -> dict[str, list[float]]:
        """The lists by name.

        Returns
        -------
        dict of str to list of float

        Examples
        --------
        >>> lenet5c.History(loss=[0.5, 0.25]).to_dict()["loss"]
        [0.5, 0.25]
        """
        return {item.name: list(getattr(self, item.name)) for item in fields(self)}

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
        columns = {name: column for name, column in self.to_dict().items() if column}
        rows = [",".join(["epoch", *columns])]
        for epoch, values in enumerate(zip(*columns.values(), strict=True), 1):
            rows.append(",".join(map(repr, (epoch, *values))))
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
        from lenet5c.report.plots import plot_history

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
        lists = self.to_dict()
        some = [name for name in forms if len(lists[name]) == len(self) > 0]
        first = max(0, len(self) - MAX_EPOCHS_SHOWN)
        rows = [
            [f"{k + 1}", *(forms[name][1].format(lists[name][k]) for name in some)]
            for k in range(first, len(self))
        ]
        title = f"History: {counted(len(self), 'epoch')}, {sum(self.seconds):.1f} s"
        title += f"; the last {MAX_EPOCHS_SHOWN}" * (first > 0)
        return Table(title, ["epoch", *(forms[name][0] for name in some)], rows)

    def _drawn(self) -> str:
        if len(self) < 2:  # a curve of one point
            return ""
        from lenet5c.report.plots import PIXELS_PER_INCH, png

        try:
            figure = self.plot()
        except ImportError:  # the table says it too
            return ""
        width = round(figure.get_figwidth() * PIXELS_PER_INCH)
        fit = "max-width:100%;min-width:640px"
        return picture(png(figure), "loss and accuracy, epoch by epoch", width, fit)


def _written(text: str, path: Path | None) -> str:
    if path is not None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    return text
