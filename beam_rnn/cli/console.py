"""What a command prints: its log, errors of one line, progress, and tables."""

import errno
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence

from beam_rnn.cli.flags import WRONG_FLAGS
from beam_rnn.core.errors import BeamRnnError, ConfigurationError, WeightsError
from beam_rnn.core.text import printable

logger = logging.getLogger(__name__)

DEBUG = "--debug"
WRONG_INPUT = (ConfigurationError, WeightsError, FileNotFoundError)
"""Errors about a flag, or about a file that it names, raised before a pipeline runs."""
UNFORESEEN = (
    "error: this is a bug in beam-rnn: please report it, with the command and the lines above"
)
WAYS_OUT = {
    errno.EACCES: "run it as a user who may, or name another file",
    errno.EFBIG: "the system limits the size of files: see `ulimit -f`",
    errno.ENOSPC: "free some space, or name a file on another disk",
    errno.EROFS: "name a file that can be written",
}
PREDICTIONS = "predictions"
"""What is counted where there are predictions."""
LESS_MEMORY = "choose a smaller --hidden, --batch_size or --sequence_length, or fewer records"


class Once(logging.Filter):
    """Pass each line once: several workers in this process log the same lines."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the line is new."""
        line = record.getMessage()
        new = line not in self._logged
        self._logged.add(line)
        return new


def is_needed(record: logging.LogRecord) -> bool:
    """Return False for Beam's warning that the client of Google Cloud is absent."""
    return "apitools not found" not in record.getMessage()


def without_trace(record: logging.LogRecord) -> bool:
    """Return False for a log record with a traceback: the command reports the error at its end."""
    traces = "Traceback (most recent call last)" in record.getMessage()
    return not traces and record.name != "PrismRunner"  # it sets a level of its own


QUIET = {
    # It warns of every file that it does not write because it would be empty.
    "apache_beam.io.filebasedsink": logging.ERROR,
    # They log an exception that is then raised, and printed in one line at the end.
    "apache_beam.runners.common": logging.CRITICAL,
    "apache_beam.runners.worker": logging.CRITICAL,
    # It logs where the server of a runner was started.
    "apache_beam.utils.subprocess_server": logging.ERROR,
    "beam_rnn": logging.INFO,
    # The command prints at its end what it wrote.
    "beam_rnn.transforms.write_dofns": logging.WARNING,
}
"""The level from which on the lines of a logger are shown."""


def run(main: Callable[[], object], *, debug: bool = False) -> None:
    """Run a command; its log and an error of one line go to the standard error.

    Args:
        main: The command.
        debug: Show all that the runner logs, and the trace of an error.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Once())
        if not debug:
            handler.addFilter(without_trace)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(logging.INFO if debug else level)
    threading.excepthook = _of_thread
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped")
    except Exception as error:
        reason = in_one_line(error)
        if debug or reason is None:
            traceback.print_exc()
        if reason is None:
            raise SystemExit(UNFORESEEN) from error
        if isinstance(error, WRONG_INPUT):
            print(f"error: {reason}", file=sys.stderr)
            raise SystemExit(WRONG_FLAGS) from error
        sys.exit(f"error: {reason}")


def in_one_line(error: Exception) -> str | None:
    r"""The one-line message of an error; None for an unexpected one.

    Runners raise an error of a worker as one of their own, whose text holds the worker's trace.

        >>> in_one_line(RuntimeError("... beam_rnn.errors.WeightsError: 'w.arrow' is cut\nTrace"))
        "'w.arrow' is cut"
        >>> in_one_line(RuntimeError("Trace\nOSError: [Errno 28] No space left on device: 'p.csv'"))
        "'p.csv': No space left on device; free some space, or name a file on another disk"
    """
    said = f"{type(error).__name__}: {error}"
    said = re.sub(r" (with exceptions None|\[while running '.*?'\])", "", said)
    if no_file := re.search(r"Empty match for pattern (.*)\. Disallowed", said):  # Beam's match
        return f"there is no file {no_file[1]!r}"
    if isinstance(error, BeamRnnError):
        return " ".join(said.partition(": ")[2].splitlines())
    if (of_trace := _of_trace(said)) is not None:
        return of_trace
    return " ".join(str(error).splitlines()) if isinstance(error, OSError) else None


def _of_trace(said: str) -> str | None:
    """Return the one-line message in the text of an error, or of a worker's trace."""
    if of_library := re.search(r"beam_rnn\.[\w.]+Error: (.*)", said):
        return of_library[1]
    if of_system := re.findall(r"Error: \[Errno (\d+)\] ([^:\n]+)(?:: (.*))?", said):
        number, reason, file = max(of_system, key=lambda each: bool(each[2]))  # one with a file
        return _of_system(int(number), reason, file)
    if "MemoryError" in said:
        size = re.search(r"Unable to allocate .*", said)
        return f"there is not enough memory{f': {size[0]}' if size else ''}; {LESS_MEMORY}"
    if of_runner := re.search(r"Unable to (?:fetch|parse binary URL) .*|FutureTimeoutError", said):
        return f"the runner cannot be started: {of_runner[0]}; see docs/engines.md for its flags"
    return None


def _of_system(number: int, reason: str, file: str) -> str:
    """Return the message of an error of the operating system, and what to do."""
    if number == errno.ENOENT and file:
        return f"there is no file {file}"
    advice = WAYS_OUT.get(number)
    return f"{f'{file}: ' if file else ''}{reason}{f'; {advice}' if advice else ''}"


def _of_thread(failed: threading.ExceptHookArgs) -> None:
    """Print an exception of a thread, unless the connection to a runner has ended."""
    grpc = sys.modules.get("grpc")
    if grpc is None or not isinstance(failed.exc_value, grpc.RpcError):
        threading.__excepthook__(failed)


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield rows as lines of text with aligned columns.

    >>> list(table([("a", "longer"), ("name", "b")]))
    ['a     longer', 'name  b']
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    wide = [
        max((len(row[i]) for row in shown if i < len(row) - 1), default=0)
        for i in range(max(map(len, shown), default=0))
    ]
    for *cells, last in shown:
        padded = [cell.ljust(wide[i]) for i, cell in enumerate(cells)]
        yield "  ".join([*padded, last])


def quoted(key: str) -> str:
    """Return a key as a list of keys shows it: quoted if one could not see where it ends.

    >>> print(quoted("pump-1"), quoted("pump, old"))
    pump-1 'pump, old'
    """
    plain = key.isprintable() and not any(c in key for c in " ,;:'\"")
    return key if plain else repr(key)
