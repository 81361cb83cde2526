"""The LeNet-5 of the usual NumPy article, complete, on the compiled kernels.

    from lenet5c.article import LeNet5

Names, signatures, shapes and return values are the article's, so its example runs with
this one import changed. What it leaves out is here: the backward pass below F6, and
`train_batch`. What it gets wrong is mended, and said where it stands::

    initialize_parameters               He's initialisation with tanh
    compute_cost                        log(p + 1e-8)
    train                               no shuffling, a mean that is none
    validate_model                      accuracy on 100 images
    train_with_gradient_checkpointing   no labels, a step for each part
    fast_conv2d                         a flipped kernel
    preprocess_data                     clipped to [0, 1], noise on all images

This is a file to read, the shortest way through the network. `lenet5c.lenet5` is the
same network for use: faster, with schedules and files. `lenet5c.reference` is the same
in plain NumPy.

Arrays are float32. Images and maps are (N, C, H, W); from F6 on a column is an image,
(84, N). Z is what a layer sums up, A what tanh makes of it, and both carry the number
of their layer in the paper. dZ is the gradient of each image's own cost by its Z; the
mean over the images is taken in dW and db, which have the shapes of W and b.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c import functional
from lenet5c._support.checks import as_array, floats, number, whole
from lenet5c.training.loop import TrainingError

__all__ = ["LeNet5", "preprocess_data"]

Array = NDArray[np.float32]
Shares = NDArray[np.float64]
Three = tuple[Array, Array, Array]

PART = 256  # images whose maps `validate_model` keeps: 15 MB


def preprocess_data(
    X: ArrayLike,
    *,
    mean: float | None = None,
    deviation: float | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Array:
    """(X - mean) / deviation + noise * n, n from the normal distribution

    Unlike the article's, it does not clip to [0, 1]: that makes all pixels darker than
    the mean the same 0, and all brighter than it by a deviation the same 1. Noise is
    for training alone, so only where it is asked for; the article adds 0.01 to all
    images. Test images are treated with mean and deviation of the training images: pass
    them.

    Parameters
    ----------
    X : array of any shape
        Bytes or floating numbers.
    mean, deviation : float or None
        Those of X if None.
    noise : float
        Deviation of the noise, 0 for none.
    seed : int
        Of the noise.

    Returns
    -------
    float32 of the shape of X

    Raises
    ------
    TypeError, ValueError
        If X does not hold finite numbers, or all of them are the same.

    Examples
    --------
    >>> lenet5c.article.preprocess_data([[0, 255], [255, 0]]).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    pixels = as_array("X", X)
    if pixels.dtype.kind not in "fiu":
        raise TypeError(f"X: expected numbers, got {pixels.dtype}")
    if pixels.size == 0 or not np.isfinite([pixels.min(), pixels.max()]).all():
        raise ValueError(f"X: expected finite numbers, got some of {pixels.shape} not")
    mean = float(pixels.mean(dtype=np.float64)) if mean is None else mean
    mean = number("mean", mean, -math.inf, math.inf)
    deviation = float(pixels.std(dtype=np.float64)) if deviation is None else deviation
    deviation = number("deviation", deviation, 0, math.inf)
    if deviation == 0:
        raise ValueError("deviation: expected more than 0, got 0, as all pixels agree")
    # in float64 if X is: in float32 the pixels 1e9 and 1e9 + 1 are the same
    exact = pixels.astype(np.result_type(pixels, np.float32), copy=False)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        result = ((exact - mean) / deviation).astype(np.float32)
    if not np.isfinite([result.min(), result.max()]).all():
        raise ValueError(
            f"deviation: expected one that X can be divided by, got {deviation:g}"
        )
    if number("noise", noise, 0, math.inf):
        rng = np.random.default_rng(whole("seed", seed, 0, 2**63 - 1))
        result += np.float32(noise) * rng.standard_normal(result.shape, np.float32)
    return result


def _shares(argument: str, value: ArrayLike, shape: tuple[int, int], of: int) -> Shares:
    """One-hot labels, or others that sum to 1 along the axis `of`, as float64."""
    y = as_array(argument, value)
    wanted = f"{argument}: expected one-hot labels, {shape[0]} x {shape[1]}"
    if y.dtype.kind not in "fiub":
        raise TypeError(f"{wanted}, got {y.dtype}")
    if y.shape != shape:
        raise ValueError(f"{wanted} as np.eye(10)[digits] makes them, got {y.shape}")
    y = y.astype(np.float64)
    if not (y.min() >= 0 and np.abs(y.sum(axis=of) - 1).max() <= 1e-6):
        raise ValueError(f"{wanted}, got some that do not sum to 1 or are negative")
    return y


def _images(argument: str, value: ArrayLike) -> Array:
    X = floats(argument, value, (None, 1, 32, 32))
    if not np.isfinite([X.min(), X.max()]).all():
        raise ValueError(f"{argument}: expected finite pixels, got NaN or infinity")
    return X


class LeNet5:
    """LeNet-5 with tanh, average pooling and softmax, trained by plain SGD.

    Parameters
    ----------
    learning_rate : float
    seed : int
        Of the first weights and of the order of images in `train`. The same seed gives
        the same bits.

    Attributes
    ----------
    W1 (6, 1, 5, 5), W3 (16, 6, 5, 5), W5 (120, 16, 5, 5), W6 (84, 120), W_out (10, 84)
        Weights of C1, C3, C5, F6 and the output.
    b1 (6, 1), b3 (16, 1), b5 (120, 1), b6 (84, 1), b_out (10, 1)
        Biases.
    cache : dict
        What the last `forward` computed, A0 to A_out.

    Examples
    --------
    >>> model = lenet5c.article.LeNet5(learning_rate=0.01)
    >>> X = np.random.default_rng(0).random((32, 1, 32, 32))
    >>> y = np.eye(10)[np.arange(32) % 10]
    >>> costs = model.train(X, y, epochs=2, batch_size=8)
    Epoch 0: cost 2.3642
    >>> model.forward(X).shape
    (10, 32)
    """

    def __init__(self, learning_rate: float = 0.01, *, seed: int = 0) -> None:
        self.learning_rate = number("learning_rate", learning_rate, 0, math.inf)
        seed = whole("seed", seed, 0, 2**63 - 1)
        self.rng = np.random.default_rng(seed)  # of the weights
        self.orders = np.random.default_rng((seed, 1))  # of the images, in each epoch
        self.cache: dict[str, Array] = {}
        self.initialize_parameters()

    def initialize_parameters(self) -> None:
        """W uniform in [-r, r], r = sqrt(6 / (fan in + fan out)); b = 0

        Glorot and Bengio 2010, derived for tanh. The article draws 0.1 * normal for all
        layers, of 25 inputs or of 400, and advises He's initialisation, which makes up
        for the half that ReLU sets to zero; tanh sets nothing to zero. In a network as
        shallow as this all three learn: docs/article.md has the figures.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> net.initialize_parameters()  # other weights: the generator goes on
        >>> bool(np.abs(net.W1).max() <= (6 / (25 + 150)) ** 0.5)
        True
        """
        self.W1, self.b1 = self._glorot(6, 1, 5, 5)
        self.W3, self.b3 = self._glorot(16, 6, 5, 5)
        self.W5, self.b5 = self._glorot(120, 16, 5, 5)
        self.W6, self.b6 = self._glorot(84, 120)
        self.W_out, self.b_out = self._glorot(10, 84)

    def _glorot(self, outputs: int, inputs: int, *kernel: int) -> tuple[Array, Array]:
        bound = math.sqrt(6 / ((inputs + outputs) * math.prod(kernel)))
        W = self.rng.uniform(-bound, bound, (outputs, inputs, *kernel))
        return W.astype(np.float32), np.zeros((outputs, 1), np.float32)

    def conv2d(
        self, input_data: ArrayLike, filters: ArrayLike, bias: ArrayLike
    ) -> Array:
        """y[n, f, i, j] = bias[f, 0] + sum over c, k, l of
        filters[f, c, k, l] * x[n, c, i + k, j + l]

        input_data x (N, C, H, W), filters (F, C, KH, KW), bias (F, 1), result
        (N, F, H - KH + 1, W - KW + 1).

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> ones = np.ones((1, 1, 5, 5))
        >>> net.conv2d(ones, ones, [[0.5]]).tolist()
        [[[[25.5]]]]
        """
        x = floats("input_data", input_data, (None, None, None, None))
        W = floats("filters", filters, (None, x.shape[1], None, None))
        b = floats("bias", bias, (len(W), 1))
        return functional.conv2d(x, W, b[:, 0])

    def fast_conv2d(self, input_data: ArrayLike, filters: ArrayLike) -> Array:
        """`conv2d` without a bias, by the same kernel: there is no slow one.

        The article's scipy.ndimage.convolve turns the kernel by 180 degrees, and keeps
        the size of the map by making up pixels beyond its sides. This does neither.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
        >>> corners = [[[[1.0, 0.0], [0.0, 10.0]]]]  # upper left and lower right
        >>> net.fast_conv2d(x, corners).tolist()
        [[[[40.0, 51.0], [73.0, 84.0]]]]
        """
        x = floats("input_data", input_data, (None, None, None, None))
        W = floats("filters", filters, (None, x.shape[1], None, None))
        return functional.conv2d(x, W)

    def conv_backward(
        self, dZ: ArrayLike, A_prev: ArrayLike, W: ArrayLike
    ) -> tuple[Array, Array]:
        """| dW[f, c, k, l] = mean over n of sum over i, j of
          dZ[n, f, i, j] * A_prev[n, c, i + k, j + l]
        | db[f, 0] = mean over n of sum over i, j of dZ[n, f, i, j]

        Gradients by filters and bias of `conv2d`, whose input was A_prev.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> dZ, A_prev = [[[[10.0]]]], [[[[1.0, 2.0], [3.0, 4.0]]]]
        >>> dW, db = net.conv_backward(dZ, A_prev, np.ones((1, 1, 2, 2)))
        >>> dW.tolist(), db.tolist()
        ([[[[10.0, 20.0], [30.0, 40.0]]]], [[10.0]])
        """
        _, dW, db = self.conv_gradients(dZ, A_prev, W)
        return dW, db

    def conv_gradients(self, dZ: ArrayLike, A_prev: ArrayLike, W: ArrayLike) -> Three:
        """dA_prev[n, c, i + k, j + l] = sum over f, k, l of
        dZ[n, f, i, j] * W[f, c, k, l]

        and the dW and db of `conv_backward`: (dA_prev, dW, db). The kernel finds all
        three in one pass, and the layer before needs the first.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> W = [[[[1.0, 2.0], [3.0, 4.0]]]]
        >>> dA_prev, dW, db = net.conv_gradients([[[[10.0]]]], np.ones((1, 1, 2, 2)), W)
        >>> dA_prev.tolist()
        [[[[10.0, 20.0], [30.0, 40.0]]]]
        """
        x = floats("A_prev", A_prev, (None, None, None, None))
        W = floats("W", W, (None, x.shape[1], None, None))
        OH, OW = x.shape[2] - W.shape[2] + 1, x.shape[3] - W.shape[3] + 1
        dZ = floats("dZ", dZ, (len(x), len(W), OH, OW))
        dA_prev, dW, db = functional.conv2d_backward(x, W, dZ)
        N = np.float32(len(x))
        return dA_prev, dW / N, db[:, None] / N

    def avg_pool2d(self, input_data: ArrayLike, pool_size: int = 2) -> Array:
        """y[n, c, i, j] = mean over k, l < P of x[n, c, P i + k, P j + l]

        input_data x (N, C, H, W), P the pool_size, result (N, C, H // P, W // P).

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> net.avg_pool2d([[[[1.0, 2.0], [3.0, 6.0]]]]).tolist()
        [[[[3.0]]]]
        """
        x = floats("input_data", input_data, (None, None, None, None))
        return functional.avg_pool2d(x, pool_size)

    def tanh_activation(self, x: ArrayLike) -> Array:
        """(exp(x) - exp(-x)) / (exp(x) + exp(-x)), any shape.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> net.tanh_activation([-100.0, 0.0, 100.0]).round(6).tolist()
        [-1.0, 0.0, 1.0]
        """
        return functional.tanh(x)

    def softmax(self, x: ArrayLike) -> Array:
        """p[k, n] = exp(x[k, n] - c) / sum over j of exp(x[j, n] - c)

        with the largest x[j, n] for c, which changes nothing but that exp cannot
        overflow. x (classes, N).

        Examples
        --------
        >>> lenet5c.article.LeNet5().softmax([[0.0, 1000.0], [0.0, 0.0]]).tolist()
        [[0.5, 1.0], [0.5, 0.0]]
        """
        x = floats("x", x, None)
        with np.errstate(over="ignore", invalid="ignore"):  # `update` finds NaN
            e = np.exp(x - x.max(axis=0, keepdims=True))
        p: Array = e / e.sum(axis=0, keepdims=True)
        return p

    def stable_softmax(self, x: ArrayLike) -> Array:
        """`softmax`, which is stable as it is; in the article as well.

        Examples
        --------
        >>> lenet5c.article.LeNet5().stable_softmax([[1000.0], [1000.0]]).tolist()
        [[0.5], [0.5]]
        """
        return self.softmax(x)

    def dense(self, A_prev: ArrayLike, W: ArrayLike, b: ArrayLike) -> Array:
        """Z = W A_prev + b: (O, N) from (I, N), W (O, I), b (O, 1).

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> W, b = [[10.0, 1.0], [0.0, 3.0]], [[0.5], [0.0]]
        >>> net.dense([[1.0], [2.0]], W, b).tolist()
        [[12.5], [6.0]]
        """
        W = floats("W", W, (None, None))
        x = floats("A_prev", A_prev, (W.shape[1], None)).T
        return functional.dense(x, W, floats("b", b, (len(W), 1))[:, 0]).T

    def dense_gradients(self, dZ: ArrayLike, A_prev: ArrayLike, W: ArrayLike) -> Three:
        """dA_prev = W^T dZ, dW = dZ A_prev^T / N, db = mean over n of dZ[:, n]

        A column is an image: dZ (O, N), A_prev (I, N), W (O, I).

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> W = [[10.0, 1.0], [0.0, 3.0]]
        >>> dA_prev, dW, db = net.dense_gradients([[1.0], [2.0]], [[1.0], [2.0]], W)
        >>> dA_prev.tolist(), dW.tolist(), db.tolist()
        ([[10.0], [7.0]], [[1.0, 2.0], [2.0, 4.0]], [[1.0], [2.0]])
        """
        W = floats("W", W, (None, None))
        x = floats("A_prev", A_prev, (W.shape[1], None)).T
        dy = floats("dZ", dZ, (len(W), len(x))).T
        dx, dW, db = functional.dense_backward(x, W, dy)
        N = np.float32(len(x))
        return dx.T, dW / N, db[:, None] / N

    def forward(self, X: ArrayLike) -> Array:
        """Probabilities (10, N) of images (N, 1, 32, 32), a column for each image.

        What the layers computed stays in `cache`, 58 KB for each image, for `backward`.

        Raises
        ------
        TypeError, ValueError
            If X holds no floating numbers, is of another shape or not finite.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> predictions = net.forward(np.zeros((3, 1, 32, 32)))
        >>> predictions.shape, predictions.sum(axis=0).round(4).tolist()
        ((10, 3), [1.0, 1.0, 1.0])
        >>> net.cache["A1"].shape
        (3, 6, 28, 28)
        """
        A0 = _images("X", X)  # 1@32x32
        Z1 = self.conv2d(A0, self.W1, self.b1)  # C1: 6@28x28
        A1 = self.tanh_activation(Z1)
        A2 = self.avg_pool2d(A1)  # S2: 6@14x14
        Z3 = self.conv2d(A2, self.W3, self.b3)  # C3: 16@10x10
        A3 = self.tanh_activation(Z3)
        A4 = self.avg_pool2d(A3)  # S4: 16@5x5
        Z5 = self.conv2d(A4, self.W5, self.b5)  # C5: 120@1x1
        A5 = self.tanh_activation(Z5)
        A5_flat = A5.reshape(len(A5), -1).T  # (120, N)
        Z6 = self.dense(A5_flat, self.W6, self.b6)  # F6: (84, N)
        A6 = self.tanh_activation(Z6)
        Z_out = self.dense(A6, self.W_out, self.b_out)  # OUTPUT: (10, N)
        A_out = self.softmax(Z_out)
        self.cache = {"A0": A0, "Z1": Z1, "A1": A1, "A2": A2, "Z3": Z3, "A3": A3}
        self.cache |= {"A4": A4, "Z5": Z5, "A5": A5, "A5_flat": A5_flat, "Z6": Z6}
        self.cache |= {"A6": A6, "Z_out": Z_out, "A_out": A_out}
        return A_out

    def compute_cost(self, predictions: ArrayLike, labels: ArrayLike) -> float:
        """mean over n of -sum over k of labels[k, n] * log(predictions[k, n])

        Both (10, N). The logarithm of what `forward` returned last is taken from the
        logits that it kept, z - max z - log(sum of exp(z - max z)). The article's
        log(p + 1e-8) is at least -18.4, so that the cost no longer belongs to the
        gradient of a bad mistake. Of other predictions it is log(p): infinite at 0.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> cost = net.compute_cost(np.full((10, 1), 0.1), np.eye(10)[:, :1])
        >>> round(cost, 4)  # log(10): one of ten, equally probable
        2.3026
        """
        p = floats("predictions", predictions, (10, None))
        y = _shares("labels", labels, (10, p.shape[1]), of=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            if predictions is self.cache.get("A_out"):
                z = self.cache["Z_out"].astype(np.float64)
                z -= z.max(axis=0)
                log_p = z - np.log(np.exp(z).sum(axis=0))
            else:
                log_p = np.log(p.astype(np.float64))
        some = y > 0  # 0 * log(0) is 0
        return float(-(y[some] * log_p[some]).sum() / y.shape[1])

    def gradients(self, predictions: ArrayLike, labels: ArrayLike) -> dict[str, Array]:
        """Gradients of the cost by the parameters, by name: "W1" to "b_out"::

            dZ_out = p - y    of softmax and cost together
            dA = W^T dZ       through a layer, see `conv_gradients`
            dZ = dA (1 - A^2) through tanh
            dA = dA_pooled / 4, for each of the four pixels of a window

        predictions and labels (10, N), of the images that `forward` had last.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> predictions = net.forward(np.zeros((1, 1, 32, 32)))  # 1 / 10 each
        >>> gradients = net.gradients(predictions, np.eye(10)[:, :1])
        >>> print(gradients["b_out"][:3].T.round(4))  # p - y
        [[-0.9  0.1  0.1]]
        """
        cache = self.cache
        if not cache:
            raise ValueError(
                "predictions: expected those of forward, which was not run"
            )
        p = floats("predictions", predictions, cache["A_out"].shape)
        dZ_out = p - _shares("labels", labels, (10, p.shape[1]), of=0)
        dA6, dW_out, db_out = self.dense_gradients(dZ_out, cache["A6"], self.W_out)
        dZ6 = functional.tanh_backward(cache["Z6"], dA6)
        dA5_flat, dW6, db6 = self.dense_gradients(dZ6, cache["A5_flat"], self.W6)
        dA5 = dA5_flat.T.reshape(cache["A5"].shape)
        dZ5 = functional.tanh_backward(cache["Z5"], dA5)
        dA4, dW5, db5 = self.conv_gradients(dZ5, cache["A4"], self.W5)
        dA3 = functional.avg_pool2d_backward(cache["A3"], dA4)
        dZ3 = functional.tanh_backward(cache["Z3"], dA3)
        dA2, dW3, db3 = self.conv_gradients(dZ3, cache["A2"], self.W3)
        dA1 = functional.avg_pool2d_backward(cache["A1"], dA2)
        dZ1 = functional.tanh_backward(cache["Z1"], dA1)
        dW1, db1 = self.conv_backward(dZ1, cache["A0"], self.W1)
        weights = {"W1": dW1, "W3": dW3, "W5": dW5, "W6": dW6, "W_out": dW_out}
        biases = {"b1": db1, "b3": db3, "b5": db5, "b6": db6, "b_out": db_out}
        return weights | biases

    def backward(self, predictions: ArrayLike, labels: ArrayLike) -> None:
        """W = W - learning_rate * dW for each parameter, after a `forward`.

        predictions and labels (10, N), as in `gradients`.

        Raises
        ------
        TrainingError
            If a parameter would not be finite; none has changed then.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5(learning_rate=0.1)
        >>> net.backward(net.forward(np.zeros((1, 1, 32, 32))), np.eye(10)[:, :1])
        >>> print(net.b_out[:3].T.round(4))  # minus 0.1 (p - y)
        [[ 0.09 -0.01 -0.01]]
        """
        self.update(self.gradients(predictions, labels))

    def update(self, gradients: dict[str, Array]) -> None:
        """The step of `backward`, with gradients by name.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5(learning_rate=0.5)
        >>> net.update({"b1": np.ones((6, 1))})
        >>> net.b1[:2].tolist()
        [[-0.5], [-0.5]]
        """
        new: dict[str, Any] = {}
        for name, gradient in gradients.items():
            values = getattr(self, name)
            with np.errstate(over="ignore", invalid="ignore"):
                stepped = values - self.learning_rate * gradient
                new[name] = stepped.astype(values.dtype)
            if not np.isfinite(new[name]).all():
                raise TrainingError(
                    f"{name} would not be finite after this step: expected a smaller "
                    f"learning_rate, got {self.learning_rate:g}; nothing has changed"
                )
        for name, value in new.items():
            getattr(self, name)[...] = value

    def train_batch(self, X_batch: ArrayLike, y_batch: ArrayLike) -> float:
        """One step with images (N, 1, 32, 32) and one-hot labels (N, 10); its cost.

        The article calls it without labels, and leaves it out.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> x, y = np.zeros((1, 1, 32, 32)), np.eye(10)[:1]
        >>> costs = [net.train_batch(x, y) for _ in range(2)]
        >>> round(costs[0], 4), costs[1] < costs[0]  # log(10), and then less
        (2.3026, True)
        """
        X_batch = _images("X_batch", X_batch)
        labels = _shares("y_batch", y_batch, (len(X_batch), 10), of=1).T
        predictions = self.forward(X_batch)
        cost = self.compute_cost(predictions, labels)
        self.backward(predictions, labels)
        return cost

    def train_with_gradient_checkpointing(
        self, X_train: ArrayLike, y_train: ArrayLike, checkpoint_freq: int = 10
    ) -> float:
        """`train_batch` that keeps the maps of checkpoint_freq images at a time.

            dW = sum over parts of (images in the part / N) * dW of the part

        One step with all images; returns their cost. The article takes a step after
        each part, without labels: training with smaller batches, not the gradient of
        the large one in less memory. Checkpoints proper drop some layers' maps and
        compute them again on the way back (Chen, Xu, Zhang, Guestrin 2016); no layer
        here mixes images, so parts of a batch keep less and compute nothing twice.

        Examples
        --------
        >>> x, y = np.random.default_rng(0).random((4, 1, 32, 32)), np.eye(10)[:4]
        >>> whole, parts = lenet5c.article.LeNet5(), lenet5c.article.LeNet5()
        >>> cost = whole.train_batch(x, y)
        >>> same = parts.train_with_gradient_checkpointing(x, y, checkpoint_freq=2)
        >>> abs(cost - same) < 1e-5, np.allclose(whole.W1, parts.W1, atol=1e-6)
        (True, True)
        """
        X_train = _images("X_train", X_train)
        y = _shares("y_train", y_train, (len(X_train), 10), of=1)
        size = whole("checkpoint_freq", checkpoint_freq, 1)
        gradients: dict[str, Any] = {}
        cost = 0.0
        for start in range(0, len(X_train), size):
            labels = y[start : start + size].T
            share = labels.shape[1] / len(X_train)
            predictions = self.forward(X_train[start : start + size])
            cost += share * self.compute_cost(predictions, labels)
            for name, gradient in self.gradients(predictions, labels).items():
                gradients[name] = gradients.get(name, 0) + share * gradient
        self.update(gradients)
        return cost

    def train(
        self,
        X_train: ArrayLike,
        y_train: ArrayLike,
        epochs: int = 100,
        batch_size: int = 32,
    ) -> list[float]:
        """Steps through all images, in batches, `epochs` times; the cost of each epoch.

            cost = sum over batches of (cost of the batch * its images) / images

        The article divides the sum of the batches' costs by m / batch_size rounded
        down: by 31 for the 32 batches of 1,000 images. And it takes the images in the
        order in which they lie, the same in each epoch, and one class after the other
        if they are sorted; here each epoch draws an order. The learning rate stays what
        it is, as in the article: for `update_learning_rate`, call `train` with
        epochs=1. Every tenth epoch prints its cost.

        Parameters
        ----------
        X_train : (N, 1, 32, 32) floating
        y_train : (N, 10) one-hot
        epochs, batch_size : int

        Raises
        ------
        TypeError, ValueError
            If an argument is of another kind, shape or range; nothing has changed.
        TrainingError
            If the training diverges. The parameters are the last finite ones.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5(learning_rate=0.1)
        >>> x = np.random.default_rng(0).random((20, 1, 32, 32))
        >>> y = np.eye(10)[np.arange(20) % 10]
        >>> costs = net.train(x, y, epochs=2, batch_size=5)
        Epoch 0: cost 2...
        >>> len(costs)
        2
        """
        X_train = _images("X_train", X_train)
        y = _shares("y_train", y_train, (len(X_train), 10), of=1)
        size = whole("batch_size", batch_size, 1)
        costs = []
        for epoch in range(whole("epochs", epochs, 1)):
            order, total = self.orders.permutation(len(X_train)), 0.0
            for start in range(0, len(X_train), size):
                batch = order[start : start + size]
                try:
                    cost = self.train_batch(X_train[batch], y[batch])
                except TrainingError as error:
                    where = f"epoch {epoch}, batch {start // size}"
                    raise TrainingError(f"{where}: {error}") from None
                total += cost * len(batch)
            costs.append(total / len(X_train))
            if epoch % 10 == 0:
                print(f"Epoch {epoch}: cost {costs[-1]:.4f}")
        return costs

    def calculate_accuracy(self, predictions: ArrayLike, y_val: ArrayLike) -> float:
        """Share of columns of predictions (10, N) that are largest where the rows of
        y_val (N, 10) are.

        Examples
        --------
        >>> predictions = np.eye(10)[:, [3, 4]]  # two columns: a 3, and a 4
        >>> lenet5c.article.LeNet5().calculate_accuracy(predictions, np.eye(10)[[3, 7]])
        0.5
        """
        p = floats("predictions", predictions, (10, None))
        y = _shares("y_val", y_val, (p.shape[1], 10), of=1)
        return float((p.argmax(axis=0) == y.argmax(axis=1)).mean())

    def validate_model(self, X_val: ArrayLike, y_val: ArrayLike) -> tuple[float, float]:
        """Cost and accuracy on images (N, 1, 32, 32) and one-hot labels (N, 10).

        On as many as there are: on 100 of them, as in the article's example, an
        accuracy of 90 % has a deviation of 3 points. `forward` gets PART images at a
        time, so that any number fits into memory.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> x, y = np.zeros((20, 1, 32, 32)), np.eye(10)[[0] * 20]
        >>> cost, accuracy = net.validate_model(x, y)
        >>> round(cost, 4)  # log(10): it knows nothing yet
        2.3026
        """
        X_val = _images("X_val", X_val)
        y = _shares("y_val", y_val, (len(X_val), 10), of=1)
        cost, predictions = 0.0, []
        for start in range(0, len(X_val), PART):
            labels = y[start : start + PART].T
            predictions.append(self.forward(X_val[start : start + PART]))
            cost += self.compute_cost(predictions[-1], labels) * labels.shape[1]
        found = np.concatenate(predictions, axis=1)
        return cost / len(X_val), self.calculate_accuracy(found, y)

    def update_learning_rate(self, epoch: int, initial_lr: float = 0.01) -> None:
        """learning_rate = initial_lr, from epoch 20 on a tenth, from 40 on a hundredth.

        initial_lr is not the rate that the class was given; pass that.

        Examples
        --------
        >>> net = lenet5c.article.LeNet5()
        >>> net.update_learning_rate(20, initial_lr=0.5)
        >>> net.learning_rate
        0.05
        """
        epoch = whole("epoch", epoch, 0)
        factor = 1.0 if epoch < 20 else 0.1 if epoch < 40 else 0.01
        self.learning_rate = number("initial_lr", initial_lr, 0, math.inf) * factor

    preprocess_data = staticmethod(preprocess_data)
