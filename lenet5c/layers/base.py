"""What a layer is: its sizes and its parameters. No arithmetic; that is the core's.

Shapes are (C, H, W): channels, rows, columns. After `Flatten` a map is (features, 1,
1).
"""

from typing import ClassVar, NamedTuple

from lenet5c._support.checks import both
from lenet5c._support.habits import did_you_mean

__all__ = ["Layer", "Shape", "Window", "check_init", "padding_of"]

Shape = tuple[int, int, int]


class Window(NamedTuple):
    """What one output looks at: rows and columns, their step, zeros around the map.

    Attributes
    ----------
    kernel : (int, int)
    stride, padding : int

    Examples
    --------
    >>> lenet5c.Conv2d(6, 5, padding=2).window((1, 28, 28))
    Window(kernel=(5, 5), stride=1, padding=2)
    """

    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0


class Layer:
    """Base of all layers, each a frozen dataclass of its options.

    `name` is what parameters and activations are found by.

    Examples
    --------
    >>> layer = lenet5c.Conv2d(6, 5, name="C1")
    >>> isinstance(layer, lenet5c.layers.Layer), layer.kind, layer.name
    (True, 'conv2d', 'C1')
    """

    name: str | None
    kind: ClassVar[str] = ""
    takes_activation: ClassVar[bool] = False  # whether one after it is computed with it

    def __post_init__(self) -> None:
        if self.name is None:
            return
        if not isinstance(self.name, str):
            raise TypeError(f"name: expected a text or None, got {self.name!r}")
        if not 1 <= len(self.name) <= 64:
            raise ValueError(f"name: expected 1 to 64 characters, got {self.name!r}")

    def output_shape(self, shape: Shape) -> Shape:
        """Output shape for an input of `shape`; ValueError if that is too small.

        Parameters
        ----------
        shape : (C, H, W)

        Returns
        -------
        (C, H, W)

        Examples
        --------
        >>> lenet5c.Conv2d(6, 5).output_shape((1, 32, 32))
        (6, 28, 28)
        """
        return shape

    def window(self, shape: Shape) -> Window:
        """What one output looks at, in an input of `shape`.

        Parameters
        ----------
        shape : (C, H, W)

        Returns
        -------
        Window

        Examples
        --------
        >>> lenet5c.Dense(10).window((16, 5, 5)).kernel  # all of it
        (5, 5)
        """
        return Window()

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters, in the order of the flat vector.

        Parameters
        ----------
        shape : (C, H, W)
            Of the input.

        Returns
        -------
        dict of str to tuple of int

        Examples
        --------
        >>> lenet5c.Conv2d(6, 5).parameter_shapes((1, 32, 32))
        {'weight': (6, 1, 5, 5), 'bias': (6,)}
        """
        return {}

    def buffer_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Shapes of what no optimizer changes, likewise: what training measures, codes.

        Parameters
        ----------
        shape : (C, H, W)
            Of the input.

        Returns
        -------
        dict of str to tuple of int

        Examples
        --------
        >>> lenet5c.BatchNorm2d().buffer_shapes((6, 28, 28))
        {'running_mean': (6,), 'running_var': (6,)}
        """
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Multiply-adds of the forward pass of one image.

        Parameters
        ----------
        shape : (C, H, W)
            Of the input.

        Returns
        -------
        int

        Examples
        --------
        >>> lenet5c.Conv2d(6, 5).multiply_adds((1, 32, 32))  # 25 for 6 * 28 * 28 each
        117600
        """
        return 0


def padding_of(padding: object, kernel: tuple[int, int], stride: int) -> int:
    """`padding` as a number; TypeError that names the one that a word stands for."""
    if not isinstance(padding, str):
        return both("padding", padding, 0)
    rows, columns = kernel
    hint = ""
    if padding.lower() == "valid":
        hint = "; that is padding=0"
    elif padding.lower() == "same" and rows == columns and rows % 2 == stride == 1:
        hint = f"; for this kernel that is padding={rows // 2}"
    elif padding.lower() == "same":
        hint = "; there is such a number where kernels are odd squares and stride is 1"
    raise TypeError(f"padding: expected a whole number, got {padding!r}{hint}")


def check_init(init: str | None) -> None:
    names = ("glorot", "he", "lecun", "lecun-1998")
    if init is not None and init not in names:
        raise ValueError(
            "init: expected 'glorot', 'he', 'lecun', 'lecun-1998' or None, got "
            f"{init!r}" + did_you_mean(init, names)
        )
