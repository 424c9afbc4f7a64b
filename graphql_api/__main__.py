"""The command `jobrec`, and `python -m graphql_api`."""

import gc
import os
import sys

# Whatever imports make stays; looking for garbage among it takes a sixth of the start
gc.disable()

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        _load_numpy_without_threads()
    # A server's workers import this module anew, and need nothing of the command line
    from graphql_api import command_line

    command_line.main()


def _load_numpy_without_threads() -> None:
    """Keep BLAS from making threads when it is loaded, of which a server uses none.

    While they wait for work, they take a third of the time that NumPy takes to load.
    """
    if _BLAS_THREADS in os.environ:
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        import numpy as np  # noqa: F401 - read when it is loaded
    finally:
        # Trainings, which are other processes, have all
        del os.environ[_BLAS_THREADS]


if __name__ == "__main__":
    main()
