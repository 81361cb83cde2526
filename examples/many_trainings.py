"""Twelve trainings of LeNet-5, two at a time, by joblib or by Dask.

python many_trainings.py [--dask] [--workers 2] [--epochs 3]

Which rate is best, and how much is chance? Each rate is tried with several seeds; the
best model is saved. Needs scikit-learn, and for --dask: pip install distributed.
"""

import argparse
import itertools
import statistics

import joblib

import lenet5c

SEEDS = range(3)
RATES = (0.01, 0.03, 0.1, 0.3)


def train(train, test, seed, rate, epochs):
    """One training, in whatever process; `train` and `test` are images and labels."""
    model = lenet5c.lenet5(seed=seed)
    optimizer = lenet5c.SGD(rate, momentum=0.9, nesterov=True)
    model.fit(*train, epochs=epochs, optimizer=optimizer, seed=seed)
    return model.evaluate(*test).accuracy, model


def by_joblib(jobs, data, epochs, workers):
    """Arrays of more than 1 MB reach all workers as one memory-mapped file."""
    split = tuple(data.train), tuple(data.test)
    with joblib.Parallel(n_jobs=workers) as parallel:
        return parallel(joblib.delayed(train)(*split, *job, epochs) for job in jobs)


def by_dask(jobs, data, epochs, workers):
    """The images are sent to each worker once."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        split = client.scatter([tuple(data.train), tuple(data.test)], broadcast=True)
        running = [client.submit(train, *split, *job, epochs) for job in jobs]
        return client.gather(running)


def main():
    parser = argparse.ArgumentParser(description="Many trainings at a time")
    parser.add_argument("--dask", action="store_true", help="Dask in place of joblib")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()

    jobs = list(itertools.product(SEEDS, RATES))
    run = by_dask if args.dask else by_joblib
    found = run(jobs, lenet5c.datasets.digits(), args.epochs, args.workers)

    print("rate   mean    " + "  ".join(f"seed {seed}" for seed in SEEDS))
    for rate in RATES:
        scores = [
            accuracy
            for (_, tried), (accuracy, _) in zip(jobs, found, strict=True)
            if tried == rate
        ]
        row = "  ".join(f"{score:6.1%}" for score in scores)
        print(f"{rate:<5}  {statistics.mean(scores):6.1%}  {row}")
    _, best = max(found, key=lambda accuracy_and_model: accuracy_and_model[0])
    best.save("best.lenet5c")


if __name__ == "__main__":  # workers import this file
    main()
