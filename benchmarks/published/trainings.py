"""Which trainings there are, what each has measured, and how one is run."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lenet5c
from lenet5c import Augment, Model
from published.networks import CHANGES, LAST_CHANGE, NETWORKS, ROWS

SEEDS = {"passes": 5, "sizes": 5, "networks": 3, "changes": 3}
"""The experiments, and how many seeds each has."""


@dataclass(frozen=True)
class Training:
    """One training: of a network on the first `images`, distorted or not."""

    network: str
    images: int
    epochs: int
    distorted: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """What its files begin with."""
        network = self.network.lower().replace(", ", "-").replace(". ", "")
        parts = [network.replace(" ", "-"), *(["distorted"] if self.distorted else [])]
        parts += [str(self.images), f"{self.epochs}passes", f"seed{self.seed}"]
        return "_".join(parts)

    def file(self, folder: Path, ending: str) -> Path:
        return folder / f"{self.name}.{ending}"

    def passes(self, folder: Path) -> list[dict[str, float]]:
        """What was measured after each pass so far. A pass that was trained again, as
        the program ended before its checkpoint was written, has two lines."""
        file = self.file(folder, "jsonl")
        if not file.exists():
            return []
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        last = {line["epoch"]: line for line in lines}
        return [last[epoch] for epoch in sorted(last)]

    def minutes(self, folder: Path) -> float:
        """Of training, without what is measured after each pass."""
        return sum(line["seconds"] for line in self.passes(folder)) / 60

    def done(self, folder: Path) -> bool:
        """Whether its model is there, which is written last."""
        return self.file(folder, "lenet5c").exists()

    def model(self, folder: Path) -> Model:
        return lenet5c.load(self.file(folder, "lenet5c"))


class Plan:
    """The data, and which trainings there are on it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        data = lenet5c.datasets.load(arguments.data)
        most = 1200 if arguments.quick else None
        self.train = [part[:most] for part in data.train]
        self.test = [part[:most] for part in data.test]
        self.folder: Path = arguments.folder
        self.epochs: int = arguments.epochs
        self.threads: int | None = arguments.threads
        self.seeds: int | None = arguments.seeds
        self.only: list[str] = arguments.only

    @property
    def images(self) -> int:
        return len(self.train[0])

    def of(
        self,
        experiment: str,
        network: str,
        *,
        images: int | None = None,
        distorted: bool = False,
    ) -> list[Training]:
        """The trainings of an experiment that differ by the seed; None: all images."""
        seeds = SEEDS[experiment] if self.seeds is None else self.seeds
        count = self.images if images is None else images
        return [
            Training(network, count, self.epochs, distorted, seed)
            for seed in range(seeds)
        ]

    def passes(self) -> dict[str, list[Training]]:
        return {"LeNet-5": self.of("passes", "LeNet-5")}

    def sizes(self) -> dict[str, list[Training]]:
        """By training set, as Fig. 6 has them."""
        found = {
            f"{count:,}": self.of("sizes", "LeNet-5", images=count)
            for count in (self.images // 4, self.images // 2, self.images)
        }
        found["distorted"] = self.of("sizes", "LeNet-5", distorted=True)
        return found

    def networks(self) -> dict[str, list[Training]]:
        """By the rows of Fig. 9."""
        return {
            f"{row.network}{', distorted' * row.distorted}": self.of(
                "networks", row.network, distorted=row.distorted
            )
            for row in ROWS
            if row.network in NETWORKS
        }

    def changes(self) -> dict[str, list[Training]]:
        found = {
            change: self.of("changes", f"after {k} changes")
            for k, change in enumerate(CHANGES)
        }
        found[LAST_CHANGE] = self.of("changes", "LeNet-5")
        found["the same, with eq. 8 for eq. 9"] = self.of("changes", "LeNet-5, eq. 8")
        return found

    def trainings(self) -> list[Training]:
        """Those of the experiments asked for, each once."""
        groups = [
            group for name in self.only for group in getattr(self, name)().values()
        ]
        return list(dict.fromkeys(one for group in groups for one in group))

    def done(self, groups: dict[str, list[Training]]) -> dict[str, list[Training]]:
        """Those that are done, of each group that has some."""
        found = {
            name: [one for one in group if one.done(self.folder)]
            for name, group in groups.items()
        }
        return {name: group for name, group in found.items() if group}

    def run(self, one: Training, told: Callable[[], None]) -> None:
        """Train; `told` is called after each pass."""
        network = NETWORKS[one.network]
        model = network.build(seed=one.seed)
        images, labels = (part[: one.images] for part in self.train)
        with one.file(self.folder, "jsonl").open("a", encoding="utf-8") as file:

            def measure(state: lenet5c.TrainingState) -> None:
                trained = model.evaluate(images, labels, threads=self.threads)
                tested = model.evaluate(*self.test, threads=self.threads)
                line = {
                    "epoch": state.epoch,
                    "training_error": 1 - trained.accuracy,
                    "test_error": 1 - tested.accuracy,
                    "loss": state.loss,
                    "seconds": state.total_images / state.images_per_second,
                }
                print(json.dumps(line), file=file, flush=True)
                told()

            model.fit(
                images,
                labels,
                epochs=self.epochs,
                seed=one.seed,
                augment=Augment.lenet5_1998() if one.distorted else False,
                threads=self.threads,
                callbacks=[measure],
                checkpoint=lenet5c.Checkpoint(
                    one.file(self.folder, "checkpoints"), every_seconds=60, keep=1
                ),
                resume=True,
                **network.options,
            )
        model.save(one.file(self.folder, "lenet5c"))


def last_errors(folder: Path, group: Sequence[Training], of: str) -> list[float]:
    """Per cent after the last pass, of each training."""
    return [100 * one.passes(folder)[-1][of] for one in group]
