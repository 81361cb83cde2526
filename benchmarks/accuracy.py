"""Test accuracy on MNIST over seeds, with default settings or those of a recipe.

LENET5C_DATA=FOLDER python benchmarks/accuracy.py [--epochs 2 3] [--seeds 5]
LENET5C_DATA=FOLDER python benchmarks/accuracy.py --recipe best
"""

import argparse
import statistics

from common import machine, seconds, table

import lenet5c


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, nargs="+", help="default: 2 and 3")
    parser.add_argument("--recipe", choices=lenet5c.recipes.RECIPES)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    data = lenet5c.datasets.mnist()
    print(machine(), end="\n\n")
    rows = [("epochs", "mean %", "worst %", "best %", "s a seed")]
    usual = [2, 3]
    if arguments.recipe is not None:
        epochs = lenet5c.recipes.RECIPES[arguments.recipe].epochs
        usual = [epochs or lenet5c.recipes.epochs_for(len(data.train.images))]
    for epochs in arguments.epochs or usual:
        accuracies, times = [], []
        for seed in range(arguments.seeds):
            model = lenet5c.lenet5(seed=seed)
            times.append(
                seconds(
                    lambda m=model, s=seed, e=epochs: m.fit(
                        *data.train, epochs=e, seed=s, recipe=arguments.recipe
                    )
                )
            )
            accuracies.append(100 * model.evaluate(*data.test).accuracy)
        rows.append(
            (
                str(epochs),
                f"{statistics.mean(accuracies):.2f}",
                f"{min(accuracies):.2f}",
                f"{max(accuracies):.2f}",
                f"{statistics.median(times):.1f}",
            )
        )
    print(table(rows))


if __name__ == "__main__":
    main()
