"""The command `lenet5c`: train, evaluate, predict, report, augment and others.

Results go to stdout, as tables for people or with --json as one document for machines;
progress and messages go to stderr. Exit codes: 0 done, 1 a check failed, 2 bad usage or
bad file, 130 interrupted. What is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.build import __version__, build_info, get_include
from lenet5c._support.habits import did_you_mean, option_for
from lenet5c.data import datasets
from lenet5c.data.arrays import as_bytes
from lenet5c.data.augment import Augment
from lenet5c.data.datasets import Dataset
from lenet5c.model import Model, load
from lenet5c.networks import NETWORKS
from lenet5c.report.history import History
from lenet5c.training.loop import TrainingError
from lenet5c.training.recipes import RECIPES
from lenet5c.training.schedules import SCHEDULES

Box = tuple[int, int, int, int]  # top, left, bottom, right

if TYPE_CHECKING:
    from lenet5c._support.progress import ProgressBar
    from lenet5c.cli.bench import Recipe

DONE, CHECK_FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

DEFAULT_MODEL = "lenet5.lenet5c"
# what follows the model's name in that of an exported file
EXPORTS = {"onnx": ".onnx", "c": ".h", "c-int8": "_int8.h"}
MOST_CALIBRATION_IMAGES = 1000
MOST_MISTAKES = 10  # in a table
MOST_LISTED = 20  # names in a message
FEW_FILES = 100  # that are read without a progress bar
PREDICTED_AT_ONCE = 4096
PICTURES = (".png", ".svg", ".pdf")

# rich draws a table of a few hundred rows in no time, but not one of 10,000.
MOST_ROWS_DRAWN = 500
# A table of counts, class against class, that fits into 80 columns.
MOST_CLASSES_CROSSED = 12


class CommandError(Exception):
    """Something the user has to correct; the message is the whole explanation."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, default sys.argv[1:]

    Returns
    -------
    int
        The exit code. `--help`, `--version` and wrong arguments raise SystemExit, as
        argparse does.
    """
    _open_streams()
    debug = False
    try:
        try:
            args = _parser().parse_args(arguments)
            debug = args.debug
            with _warnings_said():
                code: int = args.run(args)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        _say("\r" * sys.stderr.isatty() + "lenet5c: interrupted")  # over the ^C
        return INTERRUPTED
    except BrokenPipeError:  # `lenet5c ... | head` has read enough
        _to_nowhere(sys.stdout, sys.stderr)
        return DONE
    except Exception as error:
        if debug:
            raise
        try:
            _say(f"lenet5c: error: {_explain(error)}")
        except OSError:
            _to_nowhere(sys.stderr)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _to_nowhere(sys.stdout)  # what waits there is not tried again
        return CHECK_FAILED if isinstance(error, TrainingError) else BAD_USAGE
    return code


def _open_streams() -> None:
    """Let streams that are closed (`lenet5c info >&-`) swallow what is written, and
    others write what their encoding lacks in another way."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif mode == "w" and isinstance(getattr(sys, name), io.TextIOWrapper):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _to_nowhere(*streams: TextIO) -> None:
    """Throw away what the streams hold and all that follows."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _train(args: argparse.Namespace) -> int:
    from lenet5c._support.progress import ProgressBar
    from lenet5c.cli import bench

    output = _writable(args.output)
    recipe = _recipe(args)
    start = None if recipe.start is None else load(recipe.start)
    with _options_named():
        data = recipe.load_data(start)
    _check_data(args, data)
    model = recipe.new_model(data) if start is None else start
    name = recipe.start if recipe.network is None else recipe.network
    _say(f"{_describe_data(data)}\n{_describe_network(str(name), model)}")
    model.trained_on = _lasting(recipe.data)
    with ProgressBar(transient=True) as bar:
        try:
            history = recipe.fit(model, data, callbacks=[bar])
        except KeyboardInterrupt:
            if bar.last is None:
                raise
            model.save(output)
            bar.close()
            _say(
                f"lenet5c: interrupted in epoch {bar.last.epoch} of {bar.last.epochs}; "
                f"the model trained so far is saved in {output}"
                + "; --resume goes on from the last checkpoint"
                * bool(args.checkpoint)
            )
            return INTERRUPTED
        except TrainingError as error:
            raise TrainingError(f"{error}. {output} is not written") from error
        except (ValueError, TypeError) as error:
            raise _naming_the_option(error, recipe) from error
    epochs, trained_on, done, seconds = _effort(history, bar)
    speed = done / max(seconds, 1e-9)
    model.save(output)
    test = model.evaluate(*data.test)
    if args.json:
        _print_json(
            {
                "model": str(output),
                "recipe": recipe.to_dict(),
                "optimizer": repr(recipe.new_optimizer()),
                "augment": _augment_facts(recipe.new_augment()),
                "parameters": model.parameter_count,
                "multiply_adds": model.multiply_adds,
                "training_images": trained_on,
                "epochs": len(history),
                "stopped_early": len(history) < epochs,
                "training_seconds": seconds,
                "training_images_per_second": speed,
                "test_images": len(data.test.images),
                "test_loss": test.loss,
                "test_accuracy": test.accuracy,
                "peak_memory_bytes": bench.peak_memory(),
                "history": history.to_dict(),
            }
        )
        return DONE
    _print_history(history)
    trained = f"{len(history)} of {epochs}" if len(history) < epochs else str(epochs)
    print(
        f"\nTrained {trained} epochs in {seconds:.2f} s, {speed:,.0f} images/s.\n"
        f"Test accuracy {test.accuracy:.2%} on {len(data.test.images):,} images, "
        f"loss {test.loss:.4f}.\n"
        f"Model written to {output}"
    )
    return DONE


def _evaluate(args: argparse.Namespace) -> int:
    model = load(args.model)
    source, data = _data_of(args, model)
    split = data.test if args.split == "test" else data.train
    found = model.evaluate(*split)
    mistakes = []
    if args.json or data.files:
        mistakes = _mistakes(model, split, data.files.get(args.split, []))
    passed = args.at_least is None or found.accuracy >= args.at_least
    if args.json:
        _print_json(
            {
                "model": args.model,
                "data": source,
                "split": args.split,
                "images": len(split.images),
                "loss": found.loss,
                "accuracy": found.accuracy,
                "at_least": args.at_least,
                "passed": passed,
                "classes": model.classes.tolist(),
                "confusion": found.confusion.tolist(),
                "mistakes": mistakes,
            }
        )
    else:
        _print_confusion(model.classes, found.confusion)
        if data.files and mistakes:
            print("\nThe surest mistakes:\n")
            _print_table(
                ["file", "is", "taken for", "probability"],
                [
                    [
                        *(str(one[name]) for name in ("file", "label", "class")),
                        f"{one['probability']:.2%}",
                    ]
                    for one in mistakes[:MOST_MISTAKES]
                ],
            )
        count = len(split.images)
        wrong = count - int(found.confusion.trace())
        print(
            f"\nAccuracy {found.accuracy:.2%} on {count:,} {args.split} images of "
            f"{data.name} ({wrong:,} wrong), loss {found.loss:.4f}."
        )
    if not passed:
        _say(
            f"lenet5c: check failed: accuracy {found.accuracy:.4f} "
            f"is below {args.at_least:g}"
        )
        return CHECK_FAILED
    return DONE


def _predict(args: argparse.Namespace) -> int:
    from lenet5c.data.caches import Shown, progress

    model = load(args.model)
    predictions: list[dict[str, Any]] = []
    rows = []
    broken: list[str] = []
    files = _files(args.files)
    reader = _Reader(model, args.invert, args.prepare, args.many)
    shown: Shown = None if len(files) > FEW_FILES else False
    with progress("predict", len(files), "files", shown, "reading", "read") as advance:
        for done, file in enumerate(files, 1):
            try:
                images, boxes = reader.read(file)
                nothing = reader.prepare and not len(images)
                probabilities = images if nothing else model.predict_proba(images)
            except (ValueError, TypeError, CommandError, OSError) as error:
                text = _explain(error)
                broken.append(text if text.startswith(file) else f"{file}: {text}")
                continue
            finally:
                advance(done)
            if nothing and not args.many:  # of one sign each: a row each
                predictions.append({"file": file, "index": 0, "class": None, "top": []})
                rows.append([file, "nothing"])
            for index, row in enumerate(probabilities):
                best = (-row).argsort(kind="stable")[: args.top]
                top = [
                    {"class": model.classes[k].item(), "probability": float(row[k])}
                    for k in best
                ]
                place = {} if boxes is None else {"box": list(boxes[index])}
                predictions.append(
                    {"file": file, "index": index, "class": top[0]["class"], "top": top}
                    | place
                )
                name = file if len(images) == 1 else f"{file} [{index}]"
                cells = (f"{one['class']}  {one['probability']:7.2%}" for one in top)
                rows.append([name, *cells])
    if broken and not args.skip_broken:
        raise CommandError(_listed(broken))
    for text in broken:
        _say(f"lenet5c: note: left out: {text}")
    if args.json:
        _print_json({"model": args.model, "predictions": predictions})
        return DONE
    if not rows:
        print("Nothing was found.")
        return DONE
    ranks = [f"#{rank}" for rank in range(2, max(map(len, rows)))]
    rows = [row + [""] * (2 + len(ranks) - len(row)) for row in rows]
    _print_table(["image", "class", *ranks], rows)
    return DONE


def _report(args: argparse.Namespace) -> int:
    from lenet5c.report import page as report

    page = report.page_path(args.output)
    _writable(str(page if page.parent.is_dir() else args.output))
    model = load(args.model)
    source, data = _data_of(args, model)
    split = data.test if args.split == "test" else data.train
    title = args.title
    if title is None:
        images = f"the {len(split.images):,} {args.split} images of {data.name}"
        title = f"{Path(args.model).name} on {images}"
    page = report.write_report(
        model,
        *split,
        args.output,
        history=args.history,
        title=title,
        threads=args.threads,
        progress=_say,
    )
    pictures = sorted(page.with_name(f"{page.stem}_files").glob("*.png"))
    if args.json:
        _print_json(
            {
                "model": args.model,
                "data": source,
                "split": args.split,
                "images": len(split.images),
                "page": str(page),
                "pictures": [str(picture) for picture in pictures],
            }
        )
        return DONE
    print(f"Report written to {page}, its pictures to {pictures[0].parent}")
    return DONE


def _augment(args: argparse.Namespace) -> int:
    from lenet5c.report import plots

    output = _picture(args.output)
    augment = replace(Augment(), **_augment_options(args))
    data = datasets.load(args.data)
    images, labels = data.train
    if images.ndim == 2:  # flat: as square
        side = math.isqrt(images.shape[1])
        images = images.reshape(len(images), side, side)
    _, codes = np.unique(labels, return_inverse=True)
    rank = np.zeros(len(codes), np.intp)  # how many of its class come before it
    for code in range(codes.max() + 1):
        of_class = codes == code
        rank[of_class] = np.arange(of_class.sum())
    chosen = np.lexsort((codes, rank))[: args.count]  # one of each class, then again
    plots.plot_augmented(
        images[chosen], augment, output, variants=args.variants, seed=args.seed
    )
    if args.json:
        _print_json(
            {
                "data": args.data,
                "output": str(output),
                "images": chosen.tolist(),
                "labels": labels[chosen].tolist(),
                "variants": args.variants,
                "seed": args.seed,
                "augment": _augment_facts(augment),
            }
        )
        return DONE
    print(f"{_count(len(chosen), 'image')} with {args.variants} variants: {output}")
    return DONE


def _export(args: argparse.Namespace) -> int:
    model_path = Path(args.model)
    output = args.output or str(
        model_path.with_name(model_path.stem + EXPORTS[args.to])
    )
    path = _writable(output)
    if args.name is not None and args.to == "onnx":
        raise CommandError("--name belongs to --to c and --to c-int8; onnx has none")
    model = load(args.model)
    if path.exists() and path.samefile(args.model):
        raise CommandError(f"--output {output} is the model itself")
    facts: dict[str, Any] = {"model": args.model, "to": args.to, "output": output}
    name = "network" if args.name is None else args.name
    quality = None
    if args.to == "onnx":
        model.export_onnx(path)
    elif args.to == "c":
        model.export_c(path, name=name)
    else:
        source, data = _data_of(args, model)
        images = data.train.images
        step = -(-len(images) // MOST_CALIBRATION_IMAGES)
        quantized = model.quantize(images[::step])
        quality = quantized.report(*data.test)
        quantized.export_c(path, name=name)
        facts |= {
            "data": source,
            "calibration_images": len(images[::step]),
            "test_images": quality.images,
            "test_accuracy_float32": quality.float_accuracy,
            "test_accuracy": quality.accuracy,
            "agreement": quality.agreement,
            "weight_bytes": quality.weight_bytes,
            "activation_bytes": quality.activation_bytes,
        }
    facts["bytes"] = path.stat().st_size
    if args.json:
        _print_json(facts)
        return DONE
    if quality is not None:
        print(f"{quality}\n")
    print(f"Written to {output}, {facts['bytes']:,} bytes")
    return DONE


def _compare(args: argparse.Namespace) -> int:
    from lenet5c.cli import compare

    trained = _check_compared(args)
    if args.plot is not None:
        if not trained:
            raise CommandError("--plot needs a network that is trained")
        _picture(args.plot, "--plot")
    data = compare.load_data(args.data, args.validation)
    measured_on = "test" if args.validation is None else "held-out"
    _say(
        f"{data.name}: {len(data.train.images):,} training images, "
        f"{len(data.test.images):,} {measured_on} images"
    )
    rows = []
    interrupted = False
    for network in args.networks:
        runs: list[dict[str, Any]] = []
        error = None
        try:
            for seed in range(args.seeds if network in trained else 1):
                runs.append(_measure_one(args, network, seed))
        except compare.MeasurementError as failure:
            error = str(failure)
        except KeyboardInterrupt:
            interrupted = True
        if runs or error is not None:
            rows.append(compare.summary(network, runs, error))
        if interrupted:
            break
    if not rows:
        raise KeyboardInterrupt
    if args.json:
        info = build_info()
        facts = {
            "data": args.data,
            "training_images": len(data.train.images),
            "measured_on": measured_on,
            "measured_images": len(data.test.images),
            "seeds": args.seeds,
            "isa": info["isa"],
            "threads": args.threads or info["threads"],
            "interrupted": interrupted,
        }
        _print_json({**facts, "networks": rows})
    else:
        _print_compared(rows, args.seeds)
    if args.plot is not None and compare.drawable(rows):
        compare.plot(rows, args.plot, measured_on)
        _say(f"Picture written to {args.plot}")
    if interrupted:
        _say("\r" * sys.stderr.isatty() + "lenet5c: interrupted")
        return INTERRUPTED
    return CHECK_FAILED if any(row["error"] is not None for row in rows) else DONE


def _check_compared(args: argparse.Namespace) -> list[str]:
    """Return those of --networks that are trained, once all of them can be."""
    from lenet5c.cli.compare import kind_of

    trained = []
    for network in args.networks:
        try:
            kind = kind_of(network)
        except ValueError as error:
            raise CommandError(f"--networks: {error}") from error
        if kind != "model":
            trained.append(network)
        elif args.validation is not None:
            raise CommandError(
                f"--validation: {network} is not trained here, and may know the images "
                "held out"
            )
    return trained


def _measure_one(args: argparse.Namespace, network: str, seed: int) -> dict[str, Any]:
    """Measure one network in a child process, with its progress on stderr."""
    from lenet5c._support.progress import ProgressBar
    from lenet5c.cli.compare import Job, measure_in_child

    label = f"{network:{max(map(len, args.networks))}}"
    if args.seeds > 1:
        label += f"  seed {seed:{len(str(args.seeds - 1))}}"
    job = Job(network, args.data, seed, args.epochs, args.validation, args.threads)
    with ProgressBar(label) as bar:
        return measure_in_child(job, bar)


def _print_compared(rows: Sequence[dict[str, Any]], seeds: int) -> None:
    """Print a row for each network and, below it, what the article says of it."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "parameters": lambda of: f"{of['parameters']:,}",
        "accuracy": lambda of: f"{of['accuracy']:.2%}",
        "+-": lambda of: f"{100 * of['accuracy_deviation']:.2f}",
        "time": lambda of: _duration(of["training_seconds"]),
        "memory": lambda of: _megabytes(of["peak_memory_bytes"]),
        "train/s": lambda of: f"{of['training_images_per_second']:,.0f}",
        "predict/s": lambda of: f"{of['inference_images_per_second']:,.0f}",
        "file": lambda of: _short(of["model_bytes"] / 1e6),
    }
    if seeds == 1:
        del columns["+-"]
    cells = []
    for row in rows:
        shown = {"accuracy": "failed"}
        if row["error"] is None:
            known = set(columns)
            if row["training_seconds"] is None:
                known -= {"time", "memory", "train/s"}
            if row["accuracy_deviation"] is None:
                known.discard("+-")
            shown = {name: columns[name](row) for name in known}
        cells.append([row["network"], *(shown.get(name, "") for name in columns)])
        if row["article"] is not None:
            said = {
                "parameters": f"{row['article']['parameters']:,}",
                "accuracy": f"{row['article']['accuracy']:.1%} ",  # below the others
                "time": _duration(row["article"]["training_seconds"]),
            }
            cells.append(["  article", *(said.get(name, "") for name in columns)])
    _print_table(["network", *columns], cells)
    means = f", means of {seeds} seeds" if seeds > 1 else ""
    print(f"\nTime of training, images a second, memory and file in MB{means}.")
    for row in rows:
        if row["error"] is not None:
            print(f"{row['network']} failed: {row['error']}")


def _short(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _bench(args: argparse.Namespace) -> int:
    from lenet5c.cli import bench

    def measured(line: str) -> None:
        _say(f"measured {line}")

    result = bench.speeds(args.network, args.threads, measured)
    if args.json:
        _print_json(result)
        return DONE
    rows = [
        [
            f"{of['what']}, batch {of['batch_size']}",
            f"{of['images_per_second']:,.0f}",
            f"{of['gflops']:,.1f}",
        ]
        for of in result["speeds"]
    ]
    _print_table([args.network, "images/s", "GFLOP/s"], rows)
    print(f"\nOne image: {result['latency_seconds'] * 1e6:.1f} us.")
    print(f"Core {result['isa']}, {_count(result['threads'], 'thread')}.")
    return DONE


def _info(args: argparse.Namespace) -> int:
    import platform

    info: dict[str, Any] = {
        **build_info(),
        "cpu": _cpu_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "extras": _extras(),
        "data": _data_status(),
    }
    if args.json:
        _print_json(info)
        return DONE
    for name, value in info.items():
        if isinstance(value, dict):
            facts = [(name, "")] + [
                (f"  {key}", item or "none") for key, item in value.items()
            ]
        else:
            facts = [(name, ", ".join(value) if isinstance(value, list) else value)]
        for key, item in facts:
            print(f"{key:17}{item}".rstrip())
    return DONE


def _config(args: argparse.Namespace) -> int:
    include = Path(get_include())
    facts = {"cflags": f"-I{include}", "libs": str(include / "lenet5c.c")}
    if args.json:
        _print_json({**facts, "include": str(include), "version": __version__})
        return DONE
    wanted = [name for name in facts if getattr(args, name)] or list(facts)
    print(*(facts[name] for name in wanted))
    return DONE


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse_known_args(
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse what is unknown here, where the command's own options are known."""
        words = sys.argv[1:] if args is None else list(args)
        for word in words:
            if word == "--" or (self._subparsers is not None and word[:1] != "-"):
                break
            if word.startswith("--"):
                self._check_option(word.partition("=")[0])
        found, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _check_option(self, option: str) -> None:
        if option in self._option_string_actions:
            return
        names = {
            name.strip("-").replace("-", "_"): name
            for name in self._option_string_actions
        }
        name = option_for(option.strip("-").replace("-", "_"), names)
        hint = "; options follow the command" * (self._subparsers is not None)
        if name is not None:
            hint = f"; did you mean {names[name]}?"
        self.error(f"unrecognized arguments: {option}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(action.choices)
            raise argparse.ArgumentError(
                action,
                f"invalid choice: {value!r} (choose from {', '.join(choices)})"
                + did_you_mean(value, choices),
            )

    def error(self, message: str) -> NoReturn:
        self.exit(
            BAD_USAGE, f"lenet5c: error: {message} (`{self.prog} --help` shows how)\n"
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lenet5c",
        description="Train and run LeNet-5 on the CPU at native speed.",
        epilog=_examples(
            "lenet5c train",
            "lenet5c train --data mnist",
            "lenet5c evaluate lenet5.lenet5c --data mnist",
            "lenet5c predict lenet5.lenet5c digit.png",
        ),
    )
    parser.add_argument("--version", action="version", version=f"lenet5c {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str,
        run: Callable[[argparse.Namespace], int],
        summary: str,
        *examples: str,
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=summary, description=summary, epilog=_examples(*examples)
        )
        added.set_defaults(run=run, command=name)
        return added

    train = command(
        "train",
        _train,
        "Train a network, test it, and write the model to a file.",
        "lenet5c train",
        "lenet5c train --data mnist --recipe best --output mnist.lenet5c",
        "lenet5c train --data photos.npz --validation 0.1 --early-stopping 5 --shift 3",
        "lenet5c train --data FOLDER --size 64 --channels 3",
        "lenet5c train --data mine.csv --from lenet5.lenet5c --learning-rate 0.01",
        "lenet5c train --data mnist --epochs 50 --checkpoint run --resume",
    )
    train.usage = "lenet5c train [--data DATA] [--network NETWORK] [OPTION ...]"
    _add_data(train, "digits")
    start = train.add_mutually_exclusive_group()
    start.add_argument("--network", choices=NETWORKS, help="default: lenet5")
    start.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="go on from the network and the weights in a model file; the data have to "
        "be of the same classes",
    )
    train.add_argument(
        "--output",
        default=DEFAULT_MODEL,
        metavar="FILE",
        help=f"where to write the model (default: {DEFAULT_MODEL})",
    )
    _add_more_training(train, _add_training(train))

    evaluate = command(
        "evaluate",
        _evaluate,
        "Test a model: loss, accuracy, and how each class was predicted.",
        "lenet5c evaluate lenet5.lenet5c",
        "lenet5c evaluate mnist.lenet5c --data mnist --at-least 0.99",
    )
    _add_model(evaluate)
    _add_data(evaluate, None)
    _add_split(evaluate)
    evaluate.add_argument(
        "--at-least",
        type=_number(float, "a fraction from 0 to 1", lambda x: 0 <= x <= 1),
        metavar="ACCURACY",
        help="exit with 1 if the accuracy is below this fraction",
    )

    predict = command(
        "predict",
        _predict,
        "Say what is in an image: the most probable classes.",
        "lenet5c predict lenet5.lenet5c digit.png",
        "lenet5c predict lenet5.lenet5c --prepare photo.jpg drawing.png",
        "lenet5c predict lenet5.lenet5c --many page.jpg",
        "lenet5c predict mnist.lenet5c t10k-images-idx3-ubyte.gz --top 1 --json",
    )
    _add_model(predict)
    predict.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="PNG or JPEG, made grey and brought to the model's size; or .npy, .csv or "
        "IDX; or a folder of such files",
    )
    predict.add_argument(
        "--prepare",
        action="store_true",
        help="for photographs and drawings: find the sign on each, dark on light or "
        "light on dark, and make it look as in MNIST",
    )
    predict.add_argument(
        "--many",
        action="store_true",
        help="like --prepare, for several signs on a page: they are read from left to "
        "right",
    )
    _add_skip_broken(predict)
    predict.add_argument(
        "--top",
        type=_COUNT,
        default=3,
        metavar="K",
        help="how many classes to show (default: 3)",
    )
    predict.add_argument(
        "--invert",
        action="store_true",
        help="swap light and dark, for dark ink on light paper; with --prepare, which "
        "finds the ink by itself, for a model of floats that was trained on such",
    )

    report = command(
        "report",
        _report,
        "Write a page with pictures: how good a model is, and where it fails.",
        "lenet5c report lenet5.lenet5c",
        "lenet5c report mnist.lenet5c --data mnist --history run.jsonl --output mnist",
    )
    _add_model(report)
    _add_data(report, None)
    _add_split(report)
    report.add_argument(
        "--output",
        default="report.html",
        metavar="PATH",
        help="NAME.html, or a folder for report.html; its pictures also go into "
        "NAME_files beside it (default: report.html)",
    )
    report.add_argument(
        "--history",
        metavar="FILE",
        help="for learning curves: what `train --log` wrote, or History.to_json",
    )
    report.add_argument(
        "--title", metavar="TEXT", help="default: names of the model and the data"
    )
    _add_threads(report)

    export = command(
        "export",
        _export,
        "Write a model as ONNX, or as C source for programs without lenet5c.",
        "lenet5c export lenet5.lenet5c --to onnx",
        "lenet5c export mnist.lenet5c --to c --output digits.h --name digits",
        "lenet5c export mnist.lenet5c --to c-int8 --data mnist",
    )
    _add_model(export)
    export.add_argument(
        "--to",
        choices=EXPORTS,
        required=True,
        help="onnx: images to probabilities; c: one C99 file; c-int8: one with "
        "integers alone, calibrated on training images of --data, tested on its test "
        "images",
    )
    export.add_argument(
        "--output",
        metavar="FILE",
        help="where to write it (default: MODEL with .onnx, .h or _int8.h)",
    )
    export.add_argument(
        "--name",
        metavar="NAME",
        help="what all names in the C file begin with (default: network)",
    )
    _add_data(export, None)

    augment = command(
        "augment",
        _augment,
        "Draw images, each in a row with what augmentation makes of it.",
        "lenet5c augment",
        "lenet5c augment --data mnist --shift 0 --elastic 34,4 --output elastic.png",
    )
    _add_data(augment, "digits", pictures=False)
    augment.add_argument(
        "--output",
        default="augmented.png",
        metavar="FILE",
        help="where to write the picture, as PNG, SVG or PDF (default: augmented.png)",
    )
    augment.add_argument(
        "--count",
        type=_number(int, "a whole number from 1 to 50", lambda x: 1 <= x <= 50),
        default=6,
        metavar="N",
        help="how many images, of each class in turn (default: 6)",
    )
    augment.add_argument(
        "--variants",
        type=_number(int, "a whole number from 1 to 16", lambda x: 1 <= x <= 16),
        default=8,
        metavar="V",
        help="how many of each, as of the epochs 1, 2, ... (default: 8)",
    )
    augment.add_argument(
        "--seed", type=_SEED, default=0, metavar="S", help="as in train (default: 0)"
    )
    _add_augmentation(augment.add_argument_group("augmentation"))

    compare = command(
        "compare",
        _compare,
        "Train networks, each in a process of its own, and measure them.",
        "lenet5c compare --data mnist",
        "lenet5c compare --data mnist --networks lenet5,mlp --seeds 5 --plot mnist.png",
        "lenet5c compare --data mnist --networks lenet5,mine.py:network,old.lenet5c",
    )
    _add_data(compare, "digits", pictures=False)
    compare.add_argument(
        "--networks",
        type=_names,
        default=list(NETWORKS),
        metavar="NAME,...",
        help=f"any of {', '.join(NETWORKS)}, each trained with its recipe; model "
        "files, which are not trained; Python functions that return a Model, as "
        "module:function or file.py:function, trained as `train` does (default: "
        f"{','.join(NETWORKS)}; on 60,000 images resnet18 takes minutes)",
    )
    compare.add_argument(
        "--epochs", type=_COUNT, metavar="E", help="default: those of the recipes"
    )
    compare.add_argument(
        "--seeds",
        type=_COUNT,
        default=1,
        metavar="N",
        help="train with the seeds 0 to N-1; show means, and the standard deviation "
        "of the accuracy (default: 1)",
    )
    compare.add_argument(
        "--validation",
        type=_FRACTION,
        metavar="FRACTION",
        help="hold out this share of the training images and measure on them; the "
        "test images are left alone, as they should be while recipes are chosen",
    )
    _add_threads(compare)
    compare.add_argument(
        "--plot",
        metavar="FILE",
        help="draw accuracy against training time, as PNG, SVG or PDF",
    )

    bench = command(
        "bench",
        _bench,
        "Measure training and prediction on this machine, without data.",
        "lenet5c bench",
        "lenet5c bench --network cnn3 --threads 1",
    )
    bench.add_argument(
        "--network", choices=NETWORKS, default="lenet5", help="default: lenet5"
    )
    _add_threads(bench)

    info = command(
        "info",
        _info,
        "Show the compiled core, the machine, and which data is at hand.",
        "lenet5c info",
        "LENET5C_ISA=avx2 lenet5c info --json",
    )
    config = command(
        "config",
        _config,
        "Show what a C program that runs models is compiled with.",
        "lenet5c config --cflags --libs",
    )
    config.add_argument(
        "--cflags", action="store_true", help="where the header is, for the compiler"
    )
    config.add_argument(
        "--libs", action="store_true", help="the C source to compile and link"
    )
    for each in (
        train,
        evaluate,
        predict,
        report,
        export,
        augment,
        compare,
        bench,
        info,
        config,
    ):
        each.add_argument(
            "--json", action="store_true", help="print one JSON document instead"
        )
        each.add_argument(
            "--debug", action="store_true", help="show the traceback of an error"
        )
    return parser


def _examples(*lines: str) -> str:
    return "\n".join(["examples:", *(f"  {line}" for line in lines)])


def _number(
    kind: type[int] | type[float], wanted: str, accepts: Callable[[float], bool]
) -> Callable[[str], float]:
    """Return the parser of an argument that has to be a certain number."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not accepts(value):
            raise argparse.ArgumentTypeError(f"expected {wanted}, not {text!r}")
        return value

    return parse


_COUNT = _number(int, "a whole number above 0", lambda x: x > 0)
_RATE = _number(float, "a number above 0", lambda x: 0 < x < math.inf)
_DECAY = _number(float, "a number not below 0", lambda x: 0 <= x < math.inf)
_SHARE = _number(float, "a number from 0 to below 1", lambda x: 0 <= x < 1)
_FRACTION = _number(float, "a fraction between 0 and 1", lambda x: 0 < x < 1)
_SEED = _number(int, "a whole number not below 0", lambda x: x >= 0)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(
            f"expected different names with commas between them, not {text!r}"
        )
    return names


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a file that `train` has written"
    )


def _add_data(
    parser: argparse.ArgumentParser, default: str | None, pictures: bool = True
) -> None:
    usual = "what the model was trained on, if `train` trained it"
    parser.add_argument(
        "--data",
        default=default,
        help="mnist, fashion-mnist, digits, a folder with IDX, .npy or CSV files or "
        "with a folder of pictures for each class, or FILE.npz or FILE.csv (default: "
        + (usual if default is None else "digits, which needs no network")
        + ")",
    )
    if not pictures:
        return
    parser.add_argument(
        "--size",
        type=_size,
        metavar="PIXELS",
        help="rows and columns that pictures in folders are brought to, or "
        "ROWSxCOLUMNS (default: 28, or the model's)",
    )
    parser.add_argument(
        "--channels",
        type=_number(int, "1 or 3", lambda x: x in (1, 3)),
        metavar="1|3",
        help="take pictures in folders as grey (1) or in colour (3; default: 1, or the "
        "model's)",
    )
    _add_skip_broken(parser)


def _add_skip_broken(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out pictures that cannot be read",
    )


def _size(text: str) -> tuple[int, int]:
    """Return (rows, columns)."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(
            f"expected PIXELS or ROWSxCOLUMNS, as 64 or 48x64, not {text!r}"
        )
    return int(sides[0]), int(sides[-1])


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split",
        choices=("test", "train"),
        default="test",
        help="which images of the data (default: test)",
    )


def _add_threads(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--threads", type=_COUNT, metavar="T", help="default: one for each CPU"
    )


def _add_training(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--epochs",
        type=_COUNT,
        metavar="E",
        help="default: 3 for 60,000 images, more for fewer, at most 30",
    )
    group.add_argument("--batch-size", type=_COUNT, metavar="B", help="default: 64")
    group.add_argument("--optimizer", choices=("sgd", "adamw"), help="default: sgd")
    group.add_argument(
        "--learning-rate",
        type=_RATE,
        metavar="RATE",
        help="the highest of the schedule (default: for sgd 0.1, mlp 0.05, cnn3 0.02; "
        "for adamw 0.001)",
    )
    group.add_argument(
        "--momentum", type=_SHARE, metavar="M", help="of sgd (default: 0.9)"
    )
    group.add_argument(
        "--weight-decay",
        type=_DECAY,
        metavar="W",
        help="default: 0 for sgd, 0.01 for adamw",
    )
    group.add_argument(
        "--schedule",
        choices=SCHEDULES,
        help="of the learning rate (default: one-cycle)",
    )
    group.add_argument(
        "--seed",
        type=_SEED,
        metavar="S",
        help="same seed, same weights, for any number of threads (default: 0; with "
        "--from another one in each training)",
    )
    _add_threads(group)
    return group


def _add_more_training(
    train: argparse.ArgumentParser, group: argparse._ArgumentGroup
) -> None:
    """Add what `train` alone has."""
    train.add_argument(
        "--recipe",
        choices=RECIPES,
        default="default",
        help="what all other options default to; best: "
        f"{RECIPES['best'].epochs} epochs with augmentation and weight decay "
        "(default: default)",
    )
    group.add_argument(
        "--accumulate",
        type=_COUNT,
        default=1,
        metavar="N",
        help="compute each batch in N parts, in less memory (default: 1)",
    )
    group = train.add_argument_group("when to stop")
    group.add_argument(
        "--validation",
        type=_FRACTION,
        metavar="FRACTION",
        help="share of the training images to hold out and validate on (default: none)",
    )
    group.add_argument(
        "--early-stopping",
        type=_COUNT,
        metavar="PATIENCE",
        help="stop after so many epochs without a better validation loss, and keep the "
        "best weights; needs --validation",
    )
    group.add_argument(
        "--max-seconds", type=_DECAY, metavar="T", help="stop after so many seconds"
    )
    group = train.add_argument_group("regularisation")
    group.add_argument(
        "--label-smoothing",
        type=_SHARE,
        metavar="S",
        help="share of each label that is spread over all classes (default: 0)",
    )
    group.add_argument(
        "--dropout",
        type=_SHARE,
        metavar="RATE",
        help="share of F6's outputs left out in training; lenet5 only (default: 0)",
    )
    group.add_argument(
        "--weight-average",
        type=_SHARE,
        metavar="DECAY",
        help="use the exponential moving average of the weights, as 0.999 (default: 0, "
        "which is off)",
    )
    group.add_argument(
        "--clip-norm",
        type=_RATE,
        metavar="NORM",
        help="largest norm of the gradient (default: any)",
    )
    group.add_argument(
        "--class-weight",
        choices=("balanced",),
        help="balanced: rare classes count as much as frequent ones",
    )
    group = train.add_argument_group(
        "augmentation", "Any of these turns it on; what is left out is as below."
    )
    group.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="change images at random, each epoch anew; or not, whatever the recipe",
    )
    _add_augmentation(group)
    group = train.add_argument_group("checkpoints and log")
    group.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        help="write after each epoch what it takes to go on from there",
    )
    group.add_argument(
        "--checkpoint-seconds",
        type=_RATE,
        metavar="T",
        help="inside of an epoch as well, every T seconds",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint in FOLDER, if there is one",
    )
    group.add_argument(
        "--log",
        metavar="FILE",
        help="write a line of JSON an epoch, as for `report --history`",
    )


def _add_augmentation(group: argparse._ArgumentGroup) -> None:
    usual = Augment()
    group.add_argument(
        "--shift",
        type=_DECAY,
        metavar="PIXELS",
        help=f"most pixels in each direction (default: {usual.shift:g})",
    )
    group.add_argument(
        "--rotate",
        type=_DECAY,
        metavar="DEGREES",
        help=f"most degrees, either way (default: {usual.rotate:g})",
    )
    group.add_argument(
        "--scale",
        type=_SHARE,
        metavar="SHARE",
        help=f"most change of size, either way (default: {usual.scale:g})",
    )
    group.add_argument(
        "--shear",
        type=_DECAY,
        metavar="DEGREES",
        help=f"most degrees, either way (default: {usual.shear:g})",
    )
    group.add_argument(
        "--elastic",
        type=_elastic,
        metavar="ALPHA[,SIGMA]",
        help="elastic distortion, as 34,4 (default: none)",
    )
    group.add_argument(
        "--noise",
        type=_DECAY,
        metavar="DEVIATION",
        help="of each pixel: 0.1 is a tenth of their range (default: 0)",
    )
    group.add_argument(
        "--erase",
        type=_number(float, "a probability from 0 to 1", lambda x: 0 <= x <= 1),
        metavar="P",
        help="probability that a rectangle is wiped out (default: 0)",
    )


def _elastic(text: str) -> float | tuple[float, float]:
    """Return ALPHA or (ALPHA, SIGMA)."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2 or not all(0 <= x < math.inf for x in numbers):
        raise argparse.ArgumentTypeError(
            f"expected ALPHA or ALPHA,SIGMA, not below 0, not {text!r}"
        )
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _augment_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the numbers of augmentation that were given, once they are good."""
    names = [field.name for field in fields(Augment)]
    given = {name: getattr(args, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        Augment(**given)
    except (ValueError, TypeError) as error:
        raise CommandError(f"--{error}") from error
    return given


def _augment_facts(augment: Augment | None) -> dict[str, Any] | None:
    return None if augment is None else asdict(augment)


def _data_of(args: argparse.Namespace, model: Model) -> tuple[str, Dataset]:
    """Return --data, or what the model was trained on, and the data set."""
    from lenet5c.cli.bench import Recipe

    source = args.data
    if source is None:
        source = model.trained_on
        if source is None:
            raise CommandError(
                f"--data: {args.model} does not say what it was trained on; expected "
                "the data as well"
            )
    options = {name: getattr(args, name) for name in ("size", "channels")}
    recipe = Recipe(data=source, skip_broken=args.skip_broken, **options)
    try:
        with _options_named():
            return source, recipe.load_data(model)
    except FileNotFoundError as error:
        if args.data is None:
            raise CommandError(
                f"{error}. {args.model} was trained on it; --data names other data"
            ) from error
        raise


@contextmanager
def _options_named() -> Iterator[None]:
    """Let errors of `datasets.load` name the options of the command."""
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError) as error:
        name, _, rest = str(error).partition(": ")
        option = {"source": "--data", "size": "--size", "channels": "--channels"}
        text = f"{option[name]}: {rest}" if name in option else str(error)
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(
            text.replace("skip_broken leaves", "--skip-broken leaves")
        ) from error


def _lasting(source: str) -> str:
    """Return the name of the data as it can be found from other folders as well."""
    return source if source in datasets.BUILT_IN else str(Path(source).resolve())


def _check_data(args: argparse.Namespace, data: Dataset) -> None:
    """Refuse now what could not be trained on, or tested after the training."""
    source = args.data
    if data.validation is not None and args.validation is not None:
        raise CommandError(
            f"--validation: {source} has images of its own for that, which are taken"
        )
    plateau = args.schedule == "plateau"
    for option, given in (
        ("--early-stopping", args.early_stopping),
        ("--schedule plateau", plateau),
    ):
        if given and args.validation is None and data.validation is None:
            raise CommandError(f"{option} needs --validation as well")
    known = {str(label) for label in np.unique(data.train.labels).tolist()}
    if len(known) < 2:
        raise CommandError(
            f"--data {source}: expected images of two classes at least, all have the "
            f"label {min(known)}"
        )
    for part, split in (("test", data.test), ("validation", data.validation)):
        labels = [] if split is None else np.unique(split.labels).tolist()
        if unseen := [label for label in labels if str(label) not in known]:
            raise CommandError(
                f"--data {source}: the {part} images have labels that the training "
                f"images lack: {', '.join(map(str, unseen[:MOST_LISTED]))}"
            )


def _mistakes(
    model: Model, split: datasets.Split, files: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the images that are taken for something else, the surest first."""
    from lenet5c.data.images import encode_labels

    images, labels = split
    classes = model.classes
    _, codes = encode_labels(labels, len(images), len(classes), classes)
    found, sure = np.empty(len(codes), np.intp), np.empty(len(codes), np.float32)
    for start in range(0, len(codes), PREDICTED_AT_ONCE):
        part = slice(start, start + PREDICTED_AT_ONCE)
        probabilities = model.predict_proba(images[part])
        found[part] = probabilities.argmax(axis=1)
        sure[part] = probabilities.max(axis=1)
    wrong = np.flatnonzero(found != codes)
    return [
        {
            "index": int(at),
            **({"file": files[at]} if files else {}),
            "label": classes[codes[at]].item(),
            "class": classes[found[at]].item(),
            "probability": float(sure[at]),
        }
        for at in wrong[np.argsort(-sure[wrong], kind="stable")]
    ]


def _recipe(args: argparse.Namespace) -> Recipe:
    """Return the settings that the options say, once they fit each other."""
    from lenet5c.cli.bench import Recipe

    if args.optimizer == "adamw" and args.momentum is not None:
        raise CommandError("--momentum belongs to --optimizer sgd; adamw has none")
    options = {
        field.name: getattr(args, field.name)
        for field in fields(Recipe)
        if hasattr(args, field.name)
    }
    if args.start is None:
        options["network"] = args.network or "lenet5"
        options["seed"] = args.seed or 0
    changes = _augment_options(args)
    _check_together(args, options["network"], changes)
    if args.augment is not False and (args.augment or changes):
        options["augment"] = changes
    return Recipe(**options)


def _check_together(
    args: argparse.Namespace, network: str | None, changes: dict[str, Any]
) -> None:
    """Refuse options of `train` that need or exclude another one."""
    if args.augment is False and changes:
        raise CommandError(
            f"--{next(iter(changes))} and --no-augment cannot be given both"
        )
    if args.dropout is not None and network != "lenet5":
        raise CommandError(
            "--dropout belongs to --network lenet5; "
            + (f"{network} has none" if network else "--from has its own")
        )
    every = args.checkpoint_seconds is not None
    needs = [
        ("--checkpoint-seconds", every, "--checkpoint", args.checkpoint),
        ("--resume", args.resume, "--checkpoint", args.checkpoint),
    ]
    for option, given, other, found in needs:
        if given and found is None:
            raise CommandError(f"{option} needs {other} as well")
    if args.log is not None:
        _writable(args.log, "--log")
    if args.checkpoint is not None and Path(args.checkpoint).is_file():
        raise CommandError(f"--checkpoint {args.checkpoint} is a file, not a folder")


def _effort(history: History, bar: ProgressBar) -> tuple[int, int, int, float]:
    """Return the epochs asked for, the images of each, all images trained on, seconds.

    They include what was done before the training was resumed.
    """
    last = bar.last
    if last is not None:
        done = (last.epoch - 1) * last.total_images + last.images
        return last.epochs, last.total_images, done, last.seconds
    # there was nothing left to do
    images = sum(map(mul, history.seconds, history.images_per_second))
    each = round(images / max(1, len(history)))
    return len(history), each, len(history) * each, sum(history.seconds)


def _naming_the_option(error: Exception, recipe: Recipe) -> Exception:
    """Return the error of `fit` with the name of the option that it is about."""
    name, colon, rest = str(error).partition(": ")
    if not colon or name not in recipe.to_dict():
        return error
    rest = rest.replace("resume=True", "--resume")
    return CommandError(f"--{name.replace('_', '-')}: {rest}")


@contextmanager
def _warnings_said() -> Iterator[None]:
    """Show what the library warns of or logs as a warning, as that a checkpoint is
    damaged, as one line each."""
    import logging
    import warnings

    def show(message: Warning | str, *_: object) -> None:
        _say(f"lenet5c: warning: {message}")

    handler = logging.StreamHandler()  # to stderr
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("lenet5c: warning: %(message)s"))
    logger = logging.getLogger("lenet5c")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show  # type: ignore[assignment]
            yield
    finally:
        logger.removeHandler(handler)


def _writable(output: str, option: str = "--output") -> Path:
    """Refuse now what could not be written after the training."""
    path = Path(output)
    if path.is_dir():
        raise CommandError(f"{option} {output} is a folder, expected a file name")
    if not path.parent.is_dir():
        raise CommandError(f"{option} {output}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"{option} {output}: cannot write into {path.parent}")
    return path


def _picture(output: str, option: str = "--output") -> Path:
    """Refuse now a picture that could not be drawn or written in the end."""
    from lenet5c.report.plots import require_matplotlib

    path = _writable(output, option)
    if path.suffix.lower() not in PICTURES:
        raise CommandError(
            f"{option} {output}: expected a name that ends in " + " or ".join(PICTURES)
        )
    require_matplotlib()
    return path


def _files(paths: Sequence[str]) -> list[str]:
    """The files, and those in the folders among them, but for hidden ones."""
    from lenet5c.data.pictures import files_below

    found = []
    for path in paths:
        if not Path(path).is_dir():
            found.append(path)
            continue
        below = [str(file) for file in files_below(Path(path))]
        if not below:
            raise CommandError(f"{path}: expected a folder with pictures, got none")
        found += below
    return found


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - MOST_LISTED
    return "; ".join(texts[:MOST_LISTED]) + (f"; and {more:,} more" if more > 0 else "")


class _Reader:
    """Images for a model, from files of any kind."""

    def __init__(self, model: Model, invert: bool, prepare: bool, many: bool) -> None:
        self.model, self.invert, self.many = model, invert, many
        self.prepare = prepare or many
        channels, rows, columns = model.input_shape[0], *model.source
        if self.prepare and model.trained_on_floats and not invert:
            _say(
                "lenet5c: note: the model does not say whether it was trained on light "
                "ink, which is assumed, or on dark ink, which --invert says"
            )
        if self.prepare and (channels, rows) != (1, columns):
            raise CommandError(
                "--prepare and --many make square grey images, and the model was "
                f"trained on {rows}x{columns} of {_count(channels, 'channel')}"
            )

    def read(self, file: str) -> tuple[NDArray[Any], list[Box] | None]:
        """Images as `predict` takes them, told by the file's first bytes, and where
        they were found, if several were looked for.

        Arrays are returned as they are; a picture is made grey, if the model is, and
        brought to the size of the model's images.
        """
        images: NDArray[Any]
        boxes = None
        read = datasets.read_images(file)
        if read is not None:
            images = read
            if self.model.stage.takes_bytes:
                images = as_bytes(file, {"images": images})["images"]
        elif self.prepare:
            images, boxes = self._prepared(file)
        else:
            images = self._picture(file)
        _, height, width = self.model.input_shape
        if images.ndim == 2 and images.shape[0] <= height and images.shape[1] <= width:
            images = images[np.newaxis]
        if self.invert and not self.prepare:
            if images.dtype != np.uint8:
                raise CommandError(
                    f"--invert: {file} holds {images.dtype} images, expected uint8"
                )
            images = 255 - images
        return images, boxes

    def _prepared(self, file: str) -> tuple[NDArray[np.uint8], list[Box] | None]:
        from lenet5c.data.pictures import NothingFound, prepare, prepare_many

        size = self.model.source[0]
        boxes = None
        if self.many:
            signs = prepare_many(file, size)
            boxes = [sign.box for sign in signs]
            images = [sign.image for sign in signs]
        else:
            try:
                images = [prepare(file, size)]
            except NothingFound:
                images = []
        if not images:
            _say(f"lenet5c: note: {file}: nothing is found on it, it is blank")
        found = np.array(images, np.uint8).reshape(-1, 1, size, size)
        # light on black, as the model was trained on, or the other way round; of floats
        # the model does not know which it was
        light = self.model.stage.mean > 0.5 or self.invert
        return (255 - found if light else found), boxes

    def _picture(self, file: str) -> NDArray[np.uint8]:
        """A picture as uint8 (1, C, H, W), no larger than the model's images."""
        from lenet5c.data.pictures import read_picture

        model = self.model
        try:
            picture = read_picture(Path(file), model.source, model.input_shape[0])
        except ImportError:
            raise CommandError(
                f"{file}: neither .npy, .npz, .csv nor IDX; other images need Pillow: "
                "pip install 'lenet5c[images]'"
            ) from None
        except ValueError as error:
            raise CommandError(
                f"{error}; .npy, .npz, .csv and IDX are read too"
            ) from error
        edges = (picture[..., [0, -1], :], picture[..., [0, -1]])
        light = sum(edge.mean() for edge in edges) > 255
        dark = not model.trained_on_floats and model.stage.mean < 0.5
        if picture.min() == picture.max():
            _say(f"lenet5c: note: {file} is blank, all of its pixels are equal")
        elif light and not self.invert and dark:
            _say(
                f"lenet5c: note: {file} has light edges, the model was trained on dark "
                "images: --prepare finds the sign on it, --invert swaps light and dark"
            )
        return picture[np.newaxis]


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _explain(error: Exception) -> str:
    """Return the error as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    expected = (CommandError, TrainingError, ValueError, TypeError, OSError)
    if isinstance(error, (*expected, ImportError)):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def _megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:,.0f}"


def _describe_data(data: Dataset) -> str:
    return (
        f"{data.name}: {len(data.train.images):,} training images, "
        f"{len(data.test.images):,} test images"
    )


def _describe_network(name: str, model: Model) -> str:
    return (
        f"{name}: {model.parameter_count:,} parameters, "
        f"{model.multiply_adds:,} multiply-adds an image"
    )


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


def _print_history(history: History) -> None:
    if not len(history):
        return
    columns = ["epoch", "loss", "accuracy"]
    validated = bool(history.validation_accuracy)
    if validated:
        columns += ["val. loss", "val. accuracy"]
    rows = []
    for k in range(len(history)):
        row = [f"{k + 1}", f"{history.loss[k]:.4f}", f"{history.accuracy[k]:.2%}"]
        if validated:
            row.append(f"{history.validation_loss[k]:.4f}")
            row.append(f"{history.validation_accuracy[k]:.2%}")
        row.append(f"{history.images_per_second[k]:,.0f}")
        row.append(f"{history.seconds[k]:.2f}")
        rows.append(row)
    _print_table([*columns, "img/s", "seconds"], rows)


def _print_confusion(classes: NDArray[Any], confusion: NDArray[Any]) -> None:
    """Print recall and precision of each class, and which classes it was taken for."""
    right = confusion.diagonal()
    recall = right / confusion.sum(axis=1).clip(min=1)
    precision = right / confusion.sum(axis=0).clip(min=1)
    names = [str(name) for name in classes]
    rows = []
    if len(names) <= MOST_CLASSES_CROSSED:
        print("How often each class (row) was predicted as each (column):\n")
        columns = ["", *names, "recall", "precision"]
        for k, name in enumerate(names):
            counts = [str(count) if count else "." for count in confusion[k]]
            rows.append([name, *counts, f"{recall[k]:.1%}", f"{precision[k]:.1%}"])
    else:
        columns = ["class", "images", "recall", "precision", "most often mistaken for"]
        for k, name in enumerate(names):
            wrong = confusion[k].copy()
            wrong[k] = 0
            other = int(wrong.argmax())
            rows.append(
                [
                    name,
                    f"{confusion[k].sum():,}",
                    f"{recall[k]:.1%}",
                    f"{precision[k]:.1%}",
                    f"{names[other]} ({wrong[other]:,})" if wrong[other] else "",
                ]
            )
    _print_table(columns, rows)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, its first column to the left and the others to the right.

    rich draws it on a terminal; elsewhere it is plain aligned text.
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    if sys.stdout.isatty() and len(rows) <= MOST_ROWS_DRAWN:
        try:
            _draw_table(columns, rows, sum(widths) + 2 * len(widths))
            return
        except ImportError:
            pass
    for row in (columns, *rows):
        cells = map(str.rjust, row[1:], widths[1:])
        print(row[0].ljust(widths[0]), *cells, sep="  ")


def _draw_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(
        box=box.SIMPLE_HEAD,  # has one blank between columns
        padding=(0, 1 if width <= console.width else 0, 0, 0),
        show_edge=False,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(
            Text(column),
            justify="right" if table.columns else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _cpu_name() -> str:
    import platform

    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _extras() -> dict[str, str | None]:
    """Return the versions of the optional packages, None where one is missing."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in ("rich", "Pillow", "matplotlib", "scikit-learn", "onnx"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _data_status() -> dict[str, str | None]:
    """Return where the data sets lie that may have to be fetched, None if nowhere."""
    status = {"LENET5C_DATA": os.environ.get("LENET5C_DATA")}
    for name in ("mnist", "fashion-mnist"):
        folder = datasets.find(name)
        status[name] = None if folder is None else str(folder)
    return status
