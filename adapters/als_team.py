"""ALS by several processes, to the same bytes as by one.

implicit solves the rows of a half-step by threads. For each row OpenBLAS takes a buffer under a
lock of the whole process, so with some ten entries a row two threads are hardly faster than one.
Processes have a lock each. They share one stretch of memory and take turns by a word over pipes:
the trainer writes which side to solve, each helper solves its rows in place and answers.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import IO, Any, NamedTuple, Self

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from domain.errors import TrainingError

Solver = Callable[..., None]
"""implicit's half-step: solve(matrix, rows' factors, columns' factors, regularization, threads)."""

_ALIGNED = 64
_ENTRIES_A_ROW = 16
"""What a row costs whatever it holds, in entries."""

_OTHER = {"users": "jobs", "jobs": "users"}
_PARTS = ("data", "indices", "indptr")


class Place(NamedTuple):
    """Where an array lies in the shared memory."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


class Arena:
    """Arrays in memory that helpers share, as an open file without a name."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._file = os.fdopen(_nameless() if descriptor is None else descriptor, "r+b")

    def fileno(self) -> int:
        """Return the descriptor that a helper inherits."""
        return self._file.fileno()

    def hold(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Place]:
        """Copy arrays into the memory, over what it held before, and return where they lie.

        Raises:
            MemoryError: there is too little.
        """
        places: dict[str, Place] = {}
        end = 0
        for name, array in arrays.items():
            places[name] = Place(end, array.shape, array.dtype.str)
            end += -(-array.nbytes // _ALIGNED) * _ALIGNED
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.fileno(), 0, max(end, 1))
            else:  # macOS
                os.ftruncate(self.fileno(), max(end, 1))
        except OSError as error:
            raise MemoryError(f"{end:,} bytes to share: {error}") from error
        shared = self.mapped(places)
        for name, array in arrays.items():
            shared[name][...] = array
        return places

    def mapped(self, places: Mapping[str, Place]) -> dict[str, NDArray[Any]]:
        """Return the arrays at these places, without copying them.

        Raises:
            MemoryError: there is too little room for addresses.
        """
        try:
            memory = mmap.mmap(self.fileno(), 0)
        except OSError as error:
            raise MemoryError(str(error)) from error
        return {
            name: np.ndarray(place.shape, place.dtype, memory, place.offset)
            for name, place in places.items()
        }

    def close(self) -> None:
        """Give the file up; arrays that are still used keep their memory."""
        self._file.close()


class Team:
    """Helpers that solve shares of the rows of a fit; a context, with which they end.

    They start at once. Until all have started, the trainer solves alone.

    Args:
        helpers: how many processes beside this one.
    """

    def __init__(self, helpers: int) -> None:
        self._arena = Arena()
        self._helpers = [self._started() for _ in range(helpers)]
        self._starting = list(self._helpers)
        self._places: dict[str, Place] = {}
        self._shared: dict[str, NDArray[Any]] = {}
        self._bounds: dict[str, list[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for helper in self._helpers:
            helper.kill()
        for helper in self._helpers:
            helper.communicate()
        self._shared.clear()
        self._arena.close()

    @property
    def pids(self) -> list[int]:
        """The helpers' process ids."""
        return [helper.pid for helper in self._helpers]

    def is_ready(self, patience: float = 0.0) -> bool:
        """Wait at most so many seconds for helpers to start, and tell whether all have.

        Raises:
            TrainingError: one ended instead.
        """
        for helper in list(self._starting):
            if not select.select([_pipe(helper.stdout)], [], [], patience)[0]:
                return False
            self._hear(helper)
            self._starting.remove(helper)
            if self._places:
                self._tell(helper, {"places": self._places})
        return True

    def share(
        self, matrices: Mapping[str, csr_matrix], factors: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """Put a fit into the shared memory, and return its factors as they lie there.

        Args:
            matrices: by side; the rows of the one are the columns of the other.
            factors: by side, shape (rows, factors).
        """
        arrays: dict[str, NDArray[Any]] = {}
        for side, matrix in matrices.items():
            arrays |= {f"{side} {part}": getattr(matrix, part) for part in _PARTS}
            arrays[f"{side} factors"] = factors[side]
            self._bounds[side] = shares(matrix.indptr, len(self._helpers) + 1)
        self._places = self._arena.hold(arrays)
        self._shared = self._arena.mapped(self._places)
        for helper in self._helpers:
            if helper not in self._starting:
                self._tell(helper, {"places": self._places})
        return {side: self._shared[f"{side} factors"] for side in matrices}

    def solve(self, side: str, solver: Solver, regularization: float, threads: int) -> None:
        """Solve all rows of a side, in place.

        Args:
            threads: how many to use while helpers still start.

        Raises:
            TrainingError: a helper ended.
        """
        if not self.is_ready():
            everything = (0, self._bounds[side][-1])
            _solve(self._shared, side, everything, solver, regularization, threads)
            return
        own, *others = pairwise(self._bounds[side])
        for helper, share in zip(self._helpers, others, strict=True):
            task = {"side": side, "share": share, "regularization": regularization}
            self._tell(helper, task)
        _solve(self._shared, side, own, solver, regularization, 1)
        for helper in self._helpers:
            self._hear(helper)

    def _started(self) -> subprocess.Popen[bytes]:
        descriptor = self._arena.fileno()
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", __name__, str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def _tell(self, helper: subprocess.Popen[bytes], message: Mapping[str, object]) -> None:
        try:
            _pipe(helper.stdin).write(json.dumps(message).encode() + b"\n")
            _pipe(helper.stdin).flush()
        except BrokenPipeError:
            raise _lost(helper) from None

    def _hear(self, helper: subprocess.Popen[bytes]) -> None:
        if not _pipe(helper.stdout).readline():
            raise _lost(helper)


class TeamAls(AlternatingLeastSquares):  # type: ignore[misc] # implicit comes without types
    """implicit's ALS whose half-steps a team solves."""

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]

    def __init__(self, team: Team, **parameters: Any) -> None:  # noqa: ANN401 - implicit's own
        super().__init__(**parameters)
        self._team = team
        self._is_shared = False

    @property
    def solver(self) -> Solver:
        """What implicit calls for each half-step, users first."""
        return self._half_step

    def _half_step(
        self,
        matrix: csr_matrix,
        rows: NDArray[np.float32],
        _columns: NDArray[np.float32],
        regularization: float,
        num_threads: int,
    ) -> None:
        if not self._is_shared:
            shared = self._team.share(
                {"users": matrix, "jobs": matrix.T.tocsr()},
                {"users": self.user_factors, "jobs": self.item_factors},
            )
            self.user_factors, self.item_factors = shared["users"], shared["jobs"]
            self._is_shared = True
            rows = self.user_factors
        side = "users" if rows is self.user_factors else "jobs"
        self._team.solve(side, super().solver, regularization, num_threads)


def shares(indptr: NDArray[np.integer], count: int) -> list[int]:
    """Cut rows into stretches of about the same work.

    Args:
        indptr: shape (rows + 1,), where each row's entries begin.
        count: of stretches.

    Returns:
        count + 1 row numbers, the first 0 and the last all rows.
    """
    work = indptr.astype(np.int64) + _ENTRIES_A_ROW * np.arange(len(indptr))
    cuts = np.searchsorted(work, np.linspace(0, work[-1], count + 1)[1:-1])
    return [0, *cuts.tolist(), len(indptr) - 1]


def help_out(descriptor: int) -> None:
    """Solve what the trainer tells over the standard input, until it ends."""
    # Ctrl-C reaches the trainer, which ends its helpers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    arena = Arena(descriptor)
    solver = AlternatingLeastSquares().solver
    shared: dict[str, NDArray[Any]] = {}
    _answer()
    for line in sys.stdin:
        message = json.loads(line)
        if "places" in message:
            places = {name: Place(*place) for name, place in message["places"].items()}
            shared = arena.mapped(places)
        else:
            start, end = message["share"]
            _solve(shared, message["side"], (start, end), solver, message["regularization"], 1)
            _answer()


def _answer() -> None:
    print(flush=True)


def _solve(
    shared: Mapping[str, NDArray[Any]],
    side: str,
    share: tuple[int, int],
    solver: Solver,
    regularization: float,
    threads: int,
) -> None:
    """Solve a stretch of a side's rows in place."""
    start, end = share
    rows, columns = shared[f"{side} factors"][start:end], shared[f"{_OTHER[side]} factors"]
    data, indices, indptr = (shared[f"{side} {part}"] for part in _PARTS)
    first, last = indptr[start], indptr[end]
    # Slicing the whole matrix would copy its entries
    matrix = csr_matrix(
        (data[first:last], indices[first:last], indptr[start : end + 1] - first),
        shape=(end - start, len(columns)),
        copy=False,
    )
    solver(matrix, rows, columns, regularization, num_threads=threads)


def _nameless() -> int:
    """Return the descriptor of a file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("jobrec-als")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError("a helper has pipes")
    return pipe


def _lost(helper: subprocess.Popen[bytes]) -> TrainingError:
    return TrainingError(
        f"a helper of the training ended with {helper.wait()}: it was killed or ran out of memory"
    )


if __name__ == "__main__":
    try:
        help_out(int(sys.argv[1]))
    except (BrokenPipeError, MemoryError):
        # The trainer is gone, or hears of it by this end
        os._exit(1)
