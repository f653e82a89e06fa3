"""How a command runs: what it says, its errors in one line, what it exits with."""

import errno
import logging
import re
import sys
import traceback
from collections.abc import Callable

from beam_rnn.commands.flags import WRONG_FLAGS
from beam_rnn.errors import BeamRnnError, ConfigurationError, WeightsError

DEBUG = "--debug"
WRONG_INPUT = (ConfigurationError, WeightsError, FileNotFoundError)
"""What is raised, before a pipeline runs, of a flag or of a file that it names."""
UNFORESEEN = (
    "error: this is a fault of beam-rnn itself: please report it, with the command and the lines "
    "above"
)
WAYS_OUT = {
    errno.EACCES: "run it as a user who may, or name another file",
    errno.EFBIG: "the system limits the size of files: see `ulimit -f`",
    errno.ENOSPC: "free some space, or name a file on another disk",
    errno.EROFS: "name a file that can be written",
}
LESS_MEMORY = "choose a smaller --hidden, --batch_size or --sequence_length, or fewer records"


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
            raise SystemExit(UNFORESEEN) from error
        if isinstance(error, WRONG_INPUT):
            print(f"error: {reason}", file=sys.stderr)
            raise SystemExit(WRONG_FLAGS) from error
        sys.exit(f"error: {reason}")


def in_one_line(error: Exception) -> str | None:
    r"""What an error says to a person; None for one that nobody foresaw.

    Runners raise an error of a worker as one of their own, whose text holds the worker's trace.

        >>> in_one_line(RuntimeError("... beam_rnn.errors.WeightsError: 'w.arrow' is cut\nTrace"))
        "'w.arrow' is cut"
        >>> in_one_line(RuntimeError("Trace\nOSError: [Errno 28] No space left on device: 'p.csv'"))
        "'p.csv': No space left on device; free some space, or name a file on another disk"
    """
    said = re.sub(r" (with exceptions None|\[while running '.*?'\])", "", str(error))
    if no_file := re.search(r"Empty match for pattern (.*)\. Disallowed", said):  # Beam's match
        return f"there is no file {no_file[1]!r}"
    if isinstance(error, OSError) and error.errno is not None:
        said = f"OSError: {said}"
    elif isinstance(error, (BeamRnnError, OSError)):
        return " ".join(said.splitlines())
    if of_library := re.search(r"beam_rnn\.[\w.]+Error: (.*)", said):
        return of_library[1]
    if of_system := re.search(r"Error: \[Errno (\d+)\] ([^:\n]+)(?:: (.*))?", said):
        return _of_system(int(of_system[1]), of_system[2], of_system[3])
    if isinstance(error, MemoryError) or "MemoryError" in said:
        size = re.search(r"Unable to allocate .*", said)
        return f"there is not enough memory{f': {size[0]}' if size else ''}; {LESS_MEMORY}"
    return None


def _of_system(number: int, reason: str, file: str | None) -> str:
    """An error of the operating system, and what to do."""
    if number == errno.ENOENT and file:
        return f"there is no file {file}"
    advice = WAYS_OUT.get(number)
    return f"{f'{file}: ' if file else ''}{reason}{f'; {advice}' if advice else ''}"
