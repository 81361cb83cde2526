"""Training speed against PyTorch, in turns on the same machine and threads.

    python benchmarks/training.py [--threads 2] [--rounds 7] [--batches 1,2,4,8]
        [--no-peer]

lenet5c: a whole `fit` call on uint8 images, packing included. PyTorch: the same
network, batch and optimizer on float32 images that are ready in memory; eager, and
compiled by torch.compile.
"""

import argparse
import statistics

from common import (
    FLOPS_OF_AN_IMAGE,
    machine,
    noise,
    peak_gflops,
    rest,
    seconds,
    table,
    trainer,
)

import lenet5c

BATCHES = "32,64,256"


def ours(batch_size: int, threads: int):
    images, labels = noise(16384)
    return trainer(lenet5c.lenet5(), images, labels, batch_size, 0.01, threads)


def torch_lenet5():
    """The same network in PyTorch."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten()),
        *(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )


def pytorch(batch_size: int, threads: int, compiled: bool):
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    images, labels = noise(min(4096, 256 * batch_size))
    x = torch.zeros(len(images), 1, 32, 32)
    x[:, 0, 2:30, 2:30] = torch.from_numpy(images) / 255
    y = torch.from_numpy(labels)
    network = torch.compile(torch_lenet5()) if compiled else torch_lenet5()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True
    )

    def batches() -> None:
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(x[part]), y[part])
            loss.backward()
            optimizer.step()

    batches()
    return lambda: len(x) / seconds(batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", default=BATCHES, help=f"default: {BATCHES}")
    parser.add_argument("--no-peer", action="store_true", help="lenet5c alone")
    arguments = parser.parse_args()
    threads = arguments.threads
    print(machine())
    peak = peak_gflops(threads)
    print(f"multiply-add peak, {threads} threads: {peak:.0f} GFLOP/s\n")
    rows = [("batch", "lenet5c img/s", "us/img", "GFLOP/s", "of peak")]
    if not arguments.no_peer:
        rows[0] += ("PyTorch img/s", "ratio", "compiled img/s", "ratio")
    for batch_size in map(int, arguments.batches.split(",")):
        mine = ours(batch_size, threads)
        peers = []
        if not arguments.no_peer:
            peers = [
                pytorch(batch_size, threads, compiled) for compiled in (False, True)
            ]
        speeds, others = [], [[] for _ in peers]
        mine()
        for _ in range(arguments.rounds):  # in turns: a slow moment slows both
            rest()
            speeds.append(mine())
            for peer, found in zip(peers, others, strict=True):
                rest()
                found.append(peer())
        speed = statistics.median(speeds)
        gflops = speed * FLOPS_OF_AN_IMAGE * 1e-9
        row = [
            str(batch_size),
            f"{speed:,.0f}",
            f"{1e6 / speed:.1f}",
            f"{gflops:.0f}",
            f"{gflops / peak:.0%}",
        ]
        for found in others:
            other = statistics.median(found)
            row += [f"{other:,.0f}", f"{speed / other:.1f}x"]
        rows.append(tuple(row))
    print(table(rows))


if __name__ == "__main__":
    main()
