"""What is in very many pictures: Dask's workers predict batches of them.

python score_pictures.py MODEL PICTURES [--output labels.csv] [--workers 2]

PICTURES is an .npy file of images, of which each worker maps the part that it is at,
or a folder of PNG and JPEG files. A line of the output has the number or the file of a
picture, its label and how sure the model is; batches come as they are done. However
many pictures there are, a few batches are on their way at a time.

Needs Dask (pip install distributed), and Pillow for a folder.
"""

import argparse
import csv
import io
import itertools
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster, as_completed

import lenet5c

IMAGES = 16_384  # in a batch of an array
FILES = 256  # in a batch of a folder
AHEAD = 4  # batches that wait, for each worker


def score_array(model, path, start):
    """Rows of the images from number `start` on, as text."""
    images = np.load(path, mmap_mode="r")[start : start + IMAGES]
    return as_text(
        range(start, start + len(images)), model, model.predict_proba(images)
    )


def score_files(model, files):
    """Rows of these pictures; each is as large as fits into the model's images."""
    classify, channels = model.predictor(), model.input_shape[0]
    pictures = (
        lenet5c.pictures.read_picture(Path(file), model.source, channels)
        for file in files
    )
    return as_text(files, model, np.stack([*map(classify.predict_proba, pictures)]))


def as_text(names, model, probabilities):
    text = io.StringIO()
    labels = model.classes[probabilities.argmax(axis=1)].tolist()
    sure = [f"{share:.4f}" for share in probabilities.max(axis=1)]
    csv.writer(text, lineterminator="\n").writerows(
        zip(names, labels, sure, strict=True)
    )
    return text.getvalue()


def batches_of(pictures):
    """What does a batch, and what it is of, one batch after the other."""
    if not pictures.is_dir():
        count = len(np.load(pictures, mmap_mode="r"))
        return ((score_array, str(pictures), at) for at in range(0, count, IMAGES))
    found = (
        str(file)
        for file in pictures.rglob("*")
        if file.suffix.lower() in (".png", ".jpg", ".jpeg")
    )
    files = iter(lambda: list(itertools.islice(found, FILES)), [])
    return ((score_files, batch) for batch in files)


def main():
    parser = argparse.ArgumentParser(description="What is in very many pictures")
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--output", type=Path, default=Path("labels.csv"))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()

    with (
        LocalCluster(
            n_workers=args.workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
        open(args.output, "w", newline="") as output,
    ):
        model = client.scatter(
            lenet5c.load(args.model), broadcast=True
        )  # once for each

        def submit(score, *batch):
            return client.submit(score, model, *batch, pure=False)

        batches = batches_of(args.pictures.resolve())
        ahead = itertools.islice(batches, AHEAD * args.workers)
        running = as_completed(itertools.starmap(submit, ahead), with_results=True)
        for _, text in running:  # an error of a worker is raised here
            output.write(text)
            running.update(itertools.starmap(submit, itertools.islice(batches, 1)))


if __name__ == "__main__":  # workers import this file
    main()
