"""Run the stored cases with PyTorch in float64 and write one .npz file for each.

    python -m tests.golden.make_golden

from the top folder. PyTorch is needed for this alone; the tests read the files. A file
holds, for a case of cases.py:

    logits                    (N, classes), in prediction
    loss                      mean cross-entropy, in training
    gradient/NAME/first       the first 50 entries of the gradient
    gradient/NAME/projection  its projections on 8 fixed vectors
    OPTIMIZER/losses          (10,) loss of each step's batch before the step
    OPTIMIZER/NAME            (10, 8) projections of the parameter after each step
    buffers/NAME              running statistics after the first optimizer's last step
"""

import copy

import numpy as np
import torch
from torch import nn

from . import cases

# A ReLU or a maximum nearer to switching than this could switch in float32, and one
# switch changes a gradient more than all rounding. The cases' seeds keep clear of it.
MARGIN = 2e-6


class Residual(nn.Module):
    """The sum of two branches."""

    def __init__(self, layers: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.layers, self.shortcut = layers, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + self.shortcut(x)


def build(case: cases.Case) -> tuple[nn.Sequential, dict[str, nn.Module]]:
    """The network in PyTorch, and its layers by their names in this package."""
    named: dict[str, nn.Module] = {}
    x = torch.zeros(2, *case.input_shape)
    network = branch(case.layers, x, named)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
    return network.double(), named


def branch(layers: list, x: torch.Tensor, named: dict[str, nn.Module]) -> nn.Sequential:
    """These layers for an input like x; they are added to `named`."""
    built: list[nn.Module] = []
    for kind, options in layers:
        options = dict(options)
        name = options.pop("name", None)
        if kind == "conv2d":
            layer = nn.Conv2d(x.shape[1], options.pop("filters"), **options)
        elif kind == "dense":
            layer = nn.Sequential(
                nn.Flatten(), nn.Linear(x[0].numel(), options["outputs"])
            )
        elif kind == "batch_norm2d":
            layer = nn.BatchNorm2d(x.shape[1], **options)
        elif kind == "global_avg_pool2d":
            layer = nn.AdaptiveAvgPool2d(1)
        elif kind == "residual":
            layer = Residual(
                branch(options["layers"], x, named),
                branch(options.get("shortcut", []), x, named),
            )
        else:
            layer = {
                "tanh": nn.Tanh,
                "relu": nn.ReLU,
                "avg_pool2d": nn.AvgPool2d,
                "max_pool2d": nn.MaxPool2d,
                "flatten": nn.Flatten,
            }[kind](**options)
        if name is not None:
            named[name] = layer[1] if kind == "dense" else layer
        x = layer(x)
        built.append(layer)
    return nn.Sequential(*built)


def parameters_of(named: dict[str, nn.Module]) -> dict[str, nn.Parameter]:
    return {
        f"{name}.{part}": parameter
        for name, layer in named.items()
        for part, parameter in layer.named_parameters()
    }


def restart(case: cases.Case, named: dict[str, nn.Parameter]) -> None:
    """Set all parameters to the case's."""
    shapes = {name: tuple(p.shape) for name, p in named.items()}
    with torch.no_grad():
        for name, values in cases.parameters(case, shapes).items():
            named[name].copy_(torch.from_numpy(values))


def optimizer_of(name: str, named: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    options = dict(cases.OPTIMIZERS[name])
    if name == "adamw":
        betas = options.pop("beta1"), options.pop("beta2")
        return torch.optim.AdamW(named.values(), betas=betas, **options)
    return torch.optim.SGD(named.values(), **options)


@torch.no_grad()
def check_margins(network: nn.Sequential, x: torch.Tensor) -> None:
    """No ReLU near 0, and no window whose two largest values are nearly equal."""

    def check(layer: nn.Module, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        (x,) = inputs
        if isinstance(layer, nn.ReLU):
            margin = x.abs().min()
        else:
            size, step, sides = layer.kernel_size, layer.stride, [layer.padding] * 4
            x = nn.functional.pad(x, sides, value=-torch.inf)
            windows = x.unfold(2, size, step).unfold(3, size, step).flatten(4)
            largest = windows.topk(2).values
            margin = (largest[..., 0] - largest[..., 1])[largest[..., 0] != 0].min()
        if margin < MARGIN:
            raise SystemExit(f"{layer}: margin {margin:g}; choose another seed")

    network = copy.deepcopy(network)  # running statistics move
    for layer in network.modules():
        if isinstance(layer, (nn.ReLU, nn.MaxPool2d)):
            layer.register_forward_hook(check)
    network(x)


def run(case: cases.Case) -> dict[str, np.ndarray]:
    network, layers = build(case)
    named = parameters_of(layers)
    restart(case, named)
    pixels, codes = cases.images_and_labels(case)
    images, labels = torch.from_numpy(pixels).double(), torch.from_numpy(codes)

    check_margins(network, images)
    logits = network.eval()(images)
    check_margins(network.train(), images)
    loss = nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    stored = {"logits": logits.detach().numpy(), "loss": loss.detach().numpy()}
    for name, parameter in named.items():
        gradient = parameter.grad.numpy()
        stored[f"gradient/{name}/first"] = gradient.ravel()[: cases.FIRST]
        stored[f"gradient/{name}/projection"] = cases.project(case, name, gradient)

    for chosen in cases.OPTIMIZERS:
        network, layers = build(case)
        named = parameters_of(layers)
        restart(case, named)
        optimizer = optimizer_of(chosen, named)
        losses = []
        weights: dict[str, list[np.ndarray]] = {name: [] for name in named}
        for step, rate in enumerate(cases.rates(case, chosen)):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            at = cases.batch(case, step)
            check_margins(network, images[at])
            loss = nn.functional.cross_entropy(network(images[at]), labels[at])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            for name, parameter in named.items():
                values = parameter.detach().numpy()
                weights[name].append(cases.project(case, name, values))
        stored[f"{chosen}/losses"] = np.array(losses)
        stored |= {f"{chosen}/{name}": np.array(p) for name, p in weights.items()}
        if chosen == next(iter(cases.OPTIMIZERS)):
            for name, layer in layers.items():
                if isinstance(layer, nn.BatchNorm2d):
                    for part in ("running_mean", "running_var"):
                        values = getattr(layer, part).numpy()
                        stored[f"buffers/{name}.{part}"] = values
    return stored


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, case in cases.CASES.items():
        np.savez_compressed(cases.FOLDER / f"{name}.npz", **run(case))
