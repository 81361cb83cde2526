"""Run the stored cases with PyTorch in float64 and write one .npz file for each.

    python -m tests.golden.make_golden

from the top folder. PyTorch is needed for this alone; the tests read the files. A file
holds, for a case of cases.py:

    logits                    (N, classes)
    loss                      mean cross-entropy
    gradient/NAME/first       the first 50 entries of the gradient
    gradient/NAME/projection  its projections on 8 fixed vectors
    OPTIMIZER/losses          (10,) loss of each step's batch before the step
    OPTIMIZER/NAME            (10, 8) projections of the parameter after each step
"""

import numpy as np
import torch
from torch import nn

from . import cases

# A ReLU or a maximum nearer to switching than this could switch in float32, and one
# switch changes a gradient more than all rounding. The cases' seeds keep clear of it.
MARGIN = 2e-6


def build(case: cases.Case) -> tuple[nn.Sequential, dict[str, nn.Parameter]]:
    """The network in PyTorch, and its parameters by their names in this package."""
    layers: list[nn.Module] = []
    named: dict[str, nn.Parameter] = {}
    x = torch.zeros(1, *case.input_shape)
    for kind, options in case.layers:
        options = dict(options)
        name = options.pop("name", None)
        if kind == "conv2d":
            layer = nn.Conv2d(x.shape[1], options.pop("filters"), **options)
        elif kind == "dense":
            layer = nn.Linear(x.shape[1], options["outputs"])
        else:
            layer = {
                "tanh": nn.Tanh,
                "relu": nn.ReLU,
                "avg_pool2d": nn.AvgPool2d,
                "max_pool2d": nn.MaxPool2d,
                "flatten": nn.Flatten,
            }[kind](**options)
        if name is not None:
            named |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
        x = layer(x)
        layers.append(layer)
    return nn.Sequential(*layers).double(), named


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
    for number, layer in enumerate(network):
        margin = torch.tensor(1.0)
        if isinstance(layer, nn.ReLU):
            margin = x.abs().min()
        elif isinstance(layer, nn.MaxPool2d):
            size, step = layer.kernel_size, layer.stride
            windows = x.unfold(2, size, step).unfold(3, size, step).flatten(4)
            largest = windows.topk(2).values
            margin = (largest[..., 0] - largest[..., 1])[largest[..., 0] != 0].min()
        if margin < MARGIN:
            raise SystemExit(f"layer {number}: margin {margin:g}; choose another seed")
        x = layer(x)


def run(case: cases.Case) -> dict[str, np.ndarray]:
    network, named = build(case)
    restart(case, named)
    pixels, codes = cases.images_and_labels(case)
    images, labels = torch.from_numpy(pixels).double(), torch.from_numpy(codes)

    check_margins(network, images)
    logits = network(images)
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    stored = {"logits": logits.detach().numpy(), "loss": loss.detach().numpy()}
    for name, parameter in named.items():
        gradient = parameter.grad.numpy()
        stored[f"gradient/{name}/first"] = gradient.ravel()[: cases.FIRST]
        stored[f"gradient/{name}/projection"] = cases.project(case, name, gradient)

    for chosen in cases.OPTIMIZERS:
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
    return stored


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, case in cases.CASES.items():
        np.savez_compressed(cases.FOLDER / f"{name}.npz", **run(case))
