"""How a command runs: what it says, its errors in one line, what it exits with."""

import logging
import re
import sys
import traceback
from collections.abc import Callable

from beam_rnn.commands.flags import WRONG_FLAGS
from beam_rnn.errors import BeamRnnError, ConfigurationError

FAILED = 1
"""What a command exits with that could not do its work."""
DEBUG = "--debug"


class Once(logging.Filter):
    """Lets a line pass once: several workers in this process say the same."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it was not said before."""
        said = record.getMessage()
        new = said not in self._said
        self._said.add(said)
        return new


def run(main: Callable[[], object], *, debug: bool = False) -> None:
    """Run a command: how far it is goes to the standard error, an error in one line.

    Args:
        main: The command.
        debug: Show the trace of an error as well.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Once())
    # It warns of every file that was not written because it would have been empty.
    logging.getLogger("apache_beam.io.filebasedsink").setLevel(logging.ERROR)
    # It logs the trace of an exception that it then raises, and that is said in one line below.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    logging.getLogger("beam_rnn").setLevel(logging.INFO)
    # The command says at its end what it wrote.
    logging.getLogger("beam_rnn.writing").setLevel(logging.WARNING)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped")
    except Exception as error:
        reason = in_one_line(error)
        if debug or reason is None:
            traceback.print_exc()
        if reason is None:
            raise SystemExit(FAILED) from error
        if isinstance(error, ConfigurationError):
            print(f"error: {reason}", file=sys.stderr)
            raise SystemExit(WRONG_FLAGS) from error
        sys.exit(f"error: {reason}")


def in_one_line(error: Exception) -> str | None:
    r"""What an error says to a person; None for one that nobody foresaw.

    Runners with workers of their own, such as Prism and Flink, raise an error that holds the trace
    of a worker's.

        >>> in_one_line(RuntimeError("... beam_rnn.errors.WeightsError: 'w.arrow' is cut\nTrace"))
        "'w.arrow' is cut"
    """
    said = re.sub(r" (with exceptions None|\[while running '.*?'\])", "", str(error))
    no_file = re.search(r"Empty match for pattern (.*)\. Disallowed", said)  # of Beam's match
    if no_file:
        return f"there is no file {no_file[1]!r}"
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"there is no file {error.filename!r}"
    if isinstance(error, (BeamRnnError, OSError)):
        return said
    of_worker = re.search(r"beam_rnn\.[\w.]+Error: (.*)", said)
    return of_worker and of_worker[1]
