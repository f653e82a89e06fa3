"""How a command runs: what it says, its errors in one line, what it exits with."""

import logging
import re
import sys
import traceback
from collections.abc import Callable

from beam_rnn.errors import BeamRnnError

FAILED = 1
"""What a command exits with that could not do its work; argparse exits with 2, of wrong flags."""
DEBUG = "--debug"


def run(main: Callable[[], object], *, debug: bool = False) -> None:
    """Run a command: what the library says goes to the terminal, an error in one line.

    Args:
        main: The command.
        debug: Show the trace of an error as well.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    # It warns of every file that was not written because it would have been empty.
    logging.getLogger("apache_beam.io.filebasedsink").setLevel(logging.ERROR)
    # It logs the trace of an exception that it then raises, and that is said in one line below.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    logging.getLogger("beam_rnn").setLevel(logging.INFO)
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
    if isinstance(error, (BeamRnnError, OSError)):
        return said
    of_worker = re.search(r"beam_rnn\.[\w.]+Error: (.*)", said)
    return of_worker and of_worker[1]
