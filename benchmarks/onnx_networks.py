"""Small PyTorch networks through both ONNX exporters of PyTorch and `from_onnx`.

    python benchmarks/onnx_networks.py [--only NAME]

For each network a row: how far the logits are from PyTorch's, or the message that it is
refused with. Needs torch and onnxscript. Exits with 1 if outputs differ by more than
1e-4 of the largest, or a network that lenet5c has all layers of is refused.
"""

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lenet5c

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def lenet(activation=nn.Tanh, pool=nn.AvgPool2d, padding=2, end=()):
    side = 5 if padding == 2 else 4
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=padding), activation(), pool(2)),
        *(nn.Conv2d(6, 16, 5), activation(), pool(2), nn.Flatten()),
        *(nn.Linear(16 * side**2, 120), activation(), nn.Linear(120, 84), activation()),
        *(nn.Linear(84, 10), *end),
    )


def tail(channels, side=1):
    return nn.Flatten(), nn.Linear(channels * side**2, 10)


class Function(nn.Module):
    """Layers by name, and a forward that is given as a function of them and x."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


class Block(nn.Module):
    """A basic block of a residual network (He et al. 2016)."""

    def __init__(self, inputs, filters, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.down = nn.Identity()
        if stride > 1 or inputs != filters:
            self.down = nn.Sequential(
                nn.Conv2d(inputs, filters, 1, stride, bias=False),
                nn.BatchNorm2d(filters),
            )

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.down(x))


class Add(nn.Module):
    """layers(x) + x"""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


def functional(m, x):
    x = F.max_pool2d(F.relu(m.conv1(x)), 2)
    x = F.max_pool2d(F.relu(m.conv2(x)), (2, 2))
    x = torch.flatten(x, 1)
    x = F.dropout(F.relu(m.fc1(x)), training=m.training)
    return F.log_softmax(m.fc2(x), dim=1)


def viewed(m, x):
    x = torch.tanh(m.conv(x)).view(x.size(0), -1)
    return m.fc(x)


def reshaped(m, x):
    x = m.conv(x).relu()
    return m.fc(x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]))


def preprocessed(m, x):
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.247, 0.243, 0.261]).view(1, 3, 1, 1)
    return m.net((x - mean) / deviation)


def channels_last(m, x):
    x = m.conv(x).relu().permute(0, 2, 3, 1)
    return m.fc(torch.flatten(x, 1))


def small(*layers, channels=1):
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), *layers)


# name: (network, shape of an image, whether lenet5c has all of it)
def networks():
    conv = nn.Conv2d
    yield "lenet5 tanh, average", lenet(), GREY, True
    yield "lenet5 relu, maximum", lenet(nn.ReLU, nn.MaxPool2d), GREY, True
    yield "lenet5 without padding", lenet(nn.ReLU, nn.MaxPool2d, 0), GREY, True
    yield "softmax at the end", lenet(end=[nn.Softmax(dim=1)]), GREY, True
    yield "log-softmax at the end", lenet(end=[nn.LogSoftmax(dim=-1)]), GREY, True
    yield "sigmoid", lenet(nn.Sigmoid), GREY, True
    yield "leaky relu", lenet(nn.LeakyReLU, nn.MaxPool2d), GREY, True
    yield "relu6", lenet(nn.ReLU6, nn.MaxPool2d), GREY, False
    yield "gelu", lenet(nn.GELU, nn.MaxPool2d), GREY, False
    yield "sigmoid at the end", lenet(end=[nn.Sigmoid()]), GREY, False
    yield (
        "functional",
        Function(
            functional,
            conv1=conv(1, 10, 5),
            conv2=conv(10, 20, 5),
            fc1=nn.Linear(320, 50),
            fc2=nn.Linear(50, 10),
        ),
        *(GREY, True),
    )
    parts = {"conv": conv(1, 4, 5, stride=2), "fc": nn.Linear(576, 10)}
    yield "view(x.size(0), -1)", Function(viewed, **parts), GREY, True
    yield "reshape of sizes", Function(reshaped, **parts), GREY, True
    yield "flattened channels last", Function(channels_last, **parts), GREY, True
    mlp = nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)
    yield "mlp", nn.Sequential(nn.Flatten(), *mlp), GREY, True
    norm = nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)
    yield "mlp, batch norm", nn.Sequential(nn.Flatten(), *norm), GREY, True
    yield "mlp of flat images", nn.Sequential(*mlp), (784,), True
    dropped = nn.Dropout(0.5), nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 10)
    yield "mlp, dropout", nn.Sequential(nn.Flatten(), *dropped), GREY, True
    yield (
        "batch norm after convolutions",
        small(nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), *tail(8, 14)),
        *(GREY, True),
    )
    yield (
        "batch norm after relu",
        small(nn.ReLU(), nn.BatchNorm2d(8), nn.AvgPool2d(2), *tail(8, 14)),
        *(GREY, True),
    )
    yield (
        "batch norm first",
        nn.Sequential(nn.BatchNorm2d(3), conv(3, 8, 3, padding=1), *tail(8, 32)),
        *(COLOUR, True),
    )
    yield (
        "residual network",
        small(
            *(nn.BatchNorm2d(8), nn.ReLU(), Block(8, 8), Block(8, 12, 2)),
            *(nn.AdaptiveAvgPool2d(1), *tail(12)),
            channels=3,
        ),
        *(COLOUR, True),
    )
    yield (
        "stem of a resnet",
        nn.Sequential(
            *(conv(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.MaxPool2d(3, 2, 1), Block(8, 8), nn.AdaptiveAvgPool2d((1, 1))),
            *tail(8),
        ),
        *(COLOUR, True),
    )
    yield (
        "before activation (ResNet v2), nested",
        small(
            Add(nn.BatchNorm2d(8), nn.ReLU(), Add(conv(8, 8, 3, padding=1)), nn.Tanh()),
            *(nn.ReLU(), nn.MaxPool2d(4), *tail(8, 7)),
        ),
        *(GREY, True),
    )
    yield (
        "global pooling by mean",
        Function(
            lambda m, x: m.fc(m.conv(x).relu().mean(dim=(2, 3))),
            conv=conv(1, 8, 5),
            fc=nn.Linear(8, 10),
        ),
        *(GREY, True),
    )
    yield (
        "global pooling, oblong",
        small(nn.ReLU(), nn.AdaptiveAvgPool2d(1), *tail(8)),
        *((1, 20, 31), True),
    )
    yield (
        "all convolutions",
        nn.Sequential(
            *(conv(3, 8, 3, 2, 1), nn.ReLU(), conv(8, 16, 3, 2, 1), nn.ReLU()),
            *(conv(16, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        ),
        *(COLOUR, True),
    )
    yield (
        "dilation",
        nn.Sequential(conv(1, 6, 3, dilation=2), nn.ReLU(), *tail(6, 24)),
        *(GREY, True),
    )
    yield (
        "groups, each channel by itself",
        nn.Sequential(
            *(conv(3, 12, 3, padding=1, groups=3), nn.ReLU(), conv(12, 8, 1)),
            *(nn.ReLU(), conv(8, 8, 3, 2, 1, groups=8), nn.Tanh(), *tail(8, 16)),
        ),
        *(COLOUR, True),
    )
    yield (
        "padding='same', of an even kernel",
        nn.Sequential(conv(1, 6, 4, padding="same"), nn.ReLU(), *tail(6, 28)),
        *(GREY, True),
    )
    yield (
        "ZeroPad2d of one side",
        nn.Sequential(
            *(nn.ZeroPad2d((0, 1, 0, 1)), conv(1, 6, 3, 2), nn.ReLU()),
            *(nn.ZeroPad2d(1), nn.MaxPool2d(3, 2), *tail(6, 7)),
        ),
        *(GREY, True),
    )
    yield (
        "oblong kernels, rows and columns padded differently",
        nn.Sequential(
            *(conv(1, 4, (5, 3), padding=(2, 1)), nn.ReLU()),
            *(conv(4, 4, (1, 7), padding=(0, 3)), nn.Tanh(), *tail(4, 28)),
        ),
        *(GREY, True),
    )
    covered = small(nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True), *tail(8, 14))
    yield "ceil_mode, no window sticks out", covered, GREY, True
    sticking = small(nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), *tail(8, 14))
    yield "ceil_mode, windows stick out", sticking, GREY, False
    padded = small(nn.ReLU(), nn.AvgPool2d(2, padding=1), *tail(8, 15))
    yield "padded average pooling", padded, GREY, False
    strides = nn.Sequential(conv(1, 6, 3, stride=(2, 1)), nn.ReLU(), nn.Flatten())
    yield (
        "two strides",
        nn.Sequential(*strides, nn.Linear(6 * 13 * 26, 10)),
        *(GREY, False),
    )
    yield (
        "branches that are concatenated",
        Function(
            lambda m, x: m.end(torch.cat([m.one(x), m.two(x)], dim=1)),
            one=conv(1, 4, 3, padding=1),
            two=conv(1, 4, 5, padding=2),
            end=nn.Sequential(nn.ReLU(), *tail(8, 28)),
        ),
        *(GREY, False),
    )
    yield (
        "two convolutions that are summed",
        Function(
            lambda m, x: m.end(m.one(x) + m.two(x)),
            one=conv(1, 4, 3, padding=1),
            two=conv(1, 4, 5, padding=2),
            end=nn.Sequential(nn.ReLU(), *tail(4, 28)),
        ),
        *(GREY, True),
    )
    net = nn.Sequential(conv(3, 8, 3, padding=1), nn.ReLU(), *tail(8, 32))
    yield "normalises its images", Function(preprocessed, net=net), COLOUR, True
    yield (
        "numbers between layers",
        Function(
            lambda m, x: m.fc(torch.flatten(m.conv(x * 2 - 1).relu() * 0.5 + 0.1, 1)),
            **parts,
        ),
        *(GREY, True),
    )
    grouped = small(nn.GroupNorm(2, 8), nn.ReLU(), *tail(8, 28))
    yield "group norm", grouped, GREY, False
    yield (
        "squeeze and excitation",
        small(
            Function(
                lambda m, x: x * m.gate(x),
                gate=nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(8, 8, 1), nn.Tanh()),
            ),
            *(nn.ReLU(), *tail(8, 28)),
        ),
        *(GREY, False),
    )


def exported(network, example, dynamo):
    """The file that one of PyTorch's exporters makes of the network."""
    path = Path(tempfile.mkdtemp()) / "network.onnx"
    options = {"dynamic_axes": {"x": {0: "n"}}}
    if dynamo:
        options = {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},), "verbose": False}
    torch.onnx.export(
        network, (example,), path, input_names=["x"], dynamo=dynamo, **options
    )
    return path


def difference(network, shape, dynamo):
    """Relative to the largest output, after softmax has been undone."""
    images = torch.randn(5, *shape, generator=torch.manual_seed(1))
    path = exported(network, images[:2], dynamo)
    flat = {"input_shape": (1, 28, 28)} if len(shape) == 1 else {}
    model = lenet5c.from_onnx(path, **flat)
    with torch.no_grad():
        wanted = network(images).numpy()
    ours = model.forward(images.numpy())
    last = list(network.children())[-1] if isinstance(network, nn.Sequential) else None
    if isinstance(last, nn.Softmax):
        wanted = np.log(wanted)
    if (
        isinstance(last, nn.Softmax | nn.LogSoftmax)
        or network.__dict__.get("function") is functional
    ):
        wanted = wanted - wanted.mean(axis=1, keepdims=True)
        ours = ours - ours.mean(axis=1, keepdims=True)
    return float(np.abs(ours - wanted).max() / np.abs(wanted).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="networks with this in their name")
    chosen = parser.parse_args().only or ""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    bad = 0
    print(f"{'network':52}{'exporter':13}difference")
    counts = {"equal": 0, "refused": 0}
    for name, network, shape, has_all in networks():
        if chosen not in name:
            continue
        with torch.no_grad():  # statistics and biases that are not 0 and 1
            network.train()(torch.randn(8, *shape) + 0.3)
        for dynamo in (False, True):
            try:
                found = difference(network.eval(), shape, dynamo)
                bad += found > 1e-4
                counts["equal"] += found <= 1e-4
                said = f"{found:.1e}"
            except lenet5c.FileFormatError as error:
                bad += has_all
                counts["refused"] += 1
                said = "refused: " + str(error).partition(".onnx: ")[2]
            exporter = "dynamo" if dynamo else "TorchScript"
            print(f"{name:52}{exporter:13}{said}", flush=True)
    print(f"{counts}, {bad} not as they should be")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
