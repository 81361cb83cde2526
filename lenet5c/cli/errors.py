"""Exit codes, and errors as the one line that is shown."""

from pathlib import Path

from lenet5c.training.loop import TrainingError
from lenet5c.training.ranks import RankError

DONE, CHECK_FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


class CommandError(Exception):
    """Something the user has to correct; the message is the whole explanation."""


def explain(error: Exception) -> str:
    """Return the error as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        said = f"{error.filename}: {error.strerror}"
        name = Path(str(error.filename))
        if isinstance(error, FileNotFoundError) and name.suffix == ".lenet5c":
            said += f", in {name.absolute().parent}; `lenet5c train` writes a model "
            said += "into the folder that it is started in"
        return said
    expected = (CommandError, TrainingError, RankError, ValueError, TypeError, OSError)
    if isinstance(error, (*expected, ImportError)):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"
