"""The experiments of LeNet-5's paper again: its numbers, and a page of its figures.

    LENET5C_DATA=FOLDER python benchmarks/lenet5_1998.py [--only passes changes]
        [--seeds S] [--epochs 20] [--folder build/lenet5_1998] [--threads T]
    python benchmarks/lenet5_1998.py --quick --data digits

LeCun, Bottou, Bengio and Haffner 1998, section III. The folder has a line of JSON for
each pass of each training, its model and its checkpoint: what is done is not done
again, and a training that was ended goes on where it was. Several processes may work
in one folder: no two do the same training. The page shows what there is.
"""

import argparse
import errno
import statistics
from collections.abc import Iterator
from pathlib import Path

from common import machine, table
from published.page import write_page
from published.trainings import SEEDS, Plan, last_errors
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn


def numbers(plan: Plan) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Each experiment's title and its table, the head first."""
    heads = ("test error %", "least", "most", "training error %", "seeds", "minutes")
    for name in SEEDS:
        rows = []
        for what, group in plan.done(getattr(plan, name)()).items():
            test = last_errors(plan.folder, group, "test_error")
            train = last_errors(plan.folder, group, "training_error")
            minutes = [one.minutes(plan.folder) for one in group]
            values = (statistics.mean(test), min(test), max(test))
            rows.append(
                (
                    what,
                    *(f"{value:.2f}" for value in values),
                    f"{statistics.mean(train):.2f}",
                    str(len(group)),
                    f"{statistics.mean(minutes):.1f}",
                )
            )
        if rows:
            yield name, [(name, *heads), *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SEEDS, default=[*SEEDS])
    usual = ", ".join(f"{count} of {name}" for name, count in SEEDS.items())
    parser.add_argument("--seeds", type=int, help=f"default: {usual}")
    parser.add_argument("--epochs", type=int, help="default: 20")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--quick", action="store_true", help="one pass of 1,200 images, one seed"
    )
    arguments = parser.parse_args()
    if arguments.epochs is None:
        arguments.epochs = 1 if arguments.quick else 20
    if arguments.quick and arguments.seeds is None:
        arguments.seeds = 1
    if arguments.folder is None:
        name = "lenet5_1998_quick" if arguments.quick else "lenet5_1998"
        arguments.folder = Path("build") / name
    arguments.folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(arguments)
    todo = [x for x in plan.trainings() if not x.done(plan.folder)]
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "passes")
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("", total=len(todo) * plan.epochs)
        for place, one in enumerate(todo):
            passes = place * plan.epochs + len(one.passes(plan.folder))
            progress.update(bar, description=one.name, completed=passes)
            if one.done(plan.folder):  # by another process, since
                continue
            try:
                plan.run(one, lambda: progress.advance(bar))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                continue  # another process is at it
            error = last_errors(plan.folder, [one], "test_error")[0]
            progress.console.print(f"{one.name}: test error {error:.2f} %")
    print(machine())
    for _, rows in numbers(plan):
        print("\n" + table(rows))
    print(f"\n{write_page(plan)}")


if __name__ == "__main__":
    main()
