"""Every error that jobrec raises on purpose.

    JobrecError
    ├── InputError            an argument of a caller's is out of bounds
    ├── ModelNotReady         no model is live yet
    ├── DataError             a dataset cannot be used
    │   ├── DatasetMissing    a file is absent, ambiguous or unreadable
    │   ├── LineRejected      a bad line, where the reader was told to be strict
    │   ├── TooManyRejected   more bad lines than the owner accepts
    │   ├── NothingToLearn    no activity is left to learn from
    │   └── NothingToMeasure  nobody is left whose lists could be judged
    ├── TrainingError         a model could not be learned from usable data
    │   └── TrainingCancelled somebody asked the run to stop
    ├── SnapshotError         a stored model cannot be used
    │   ├── SnapshotMissing   there is no such version
    │   └── SnapshotCorrupt   files are missing, altered, or of a foreign format
    ├── RunMissing            there is no such training run
    ├── RecordsUnavailable    the record of training runs cannot be read or written
    ├── ActivitiesUnavailable activities cannot be recorded
    └── CatalogUnavailable    the store of jobs and people does not answer

Messages name the offending value and the bound. They are written for the person who can mend
the cause, and never carry a secret or a personal field.
"""

from __future__ import annotations


class JobrecError(Exception):
    """Base of every error that jobrec raises on purpose."""


class InputError(JobrecError, ValueError):
    """An argument is out of bounds.

    Args:
        message: What was given and what is accepted.
        argument: The argument's name as its caller knows it.
    """

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class ModelNotReady(JobrecError):
    """No model is live yet; asking again after `retry_after` seconds makes sense."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DataError(JobrecError):
    """A dataset cannot be used."""


class DatasetMissing(DataError):
    """A file of the dataset is absent, ambiguous or unreadable."""


class LineRejected(DataError):
    """A bad line was met, and the reader was told to be strict."""


class TooManyRejected(DataError):
    """The share of bad lines exceeds what the owner accepts."""


class NothingToLearn(DataError):
    """No activity is left to learn from."""


class NothingToMeasure(DataError):
    """Nobody is left whose lists could be judged."""


class TrainingError(JobrecError):
    """A model could not be learned from usable data."""


class TrainingCancelled(TrainingError):
    """Somebody asked the run to stop."""


class SnapshotError(JobrecError):
    """A stored model cannot be used."""


class SnapshotMissing(SnapshotError):
    """There is no such version."""


class SnapshotCorrupt(SnapshotError):
    """Files are missing, altered, or of a format that this release does not read."""


class RunMissing(JobrecError):
    """There is no such training run."""


class RecordsUnavailable(JobrecError):
    """The record of training runs cannot be read or written: a full disk, say."""


class ActivitiesUnavailable(JobrecError):
    """Activities cannot be recorded: a full or a read-only disk, say. None of them was."""


class CatalogUnavailable(JobrecError):
    """The store of jobs and people does not answer: its server is down, say, or its disk full."""
