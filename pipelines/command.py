"""What the command lines share: Beam's flags, the engine, the log, errors in one line."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn.columns import Columns
from beam_rnn.errors import BeamRnnError, ConfigurationError

LOCAL_RUNNER = "FnApiRunner"
"""Where a pipeline runs if no --runner is given: in this process, with nothing to download."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def names(text: str) -> list[str]:
    """Column names from "A,B"."""
    return [name.strip() for name in text.split(",") if name.strip()]


def horizons(text: str) -> int | list[int]:
    """One horizon, "3", or several: "1,6,24" or "1-24".

    Raises:
        argparse.ArgumentTypeError: It is none of these.
    """
    try:
        found: list[int] = []
        for part in text.split(","):
            first, *last = map(int, part.split("-"))
            found += range(first, (last[0] if last else first) + 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is none of 3, 1,6,24 and 1-24") from error
    return found[0] if len(found) == 1 else found


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options from the flags that our parser left over.

    Raises:
        ConfigurationError: Without --runner, a flag that Beam does not know either. A runner
            may have flags of its own, which only it can check.
    """
    if any(flag == "--runner" or flag.startswith("--runner=") for flag in flags):
        return PipelineOptions(list(flags))
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(known)  # noqa: SLF001  # Beam's hook for options
    unknown = known.parse_known_args(list(flags))[1]
    if unknown:
        raise ConfigurationError(
            f"unknown flags: {' '.join(unknown)}; --help lists those there are"
        )
    return PipelineOptions([*flags, f"--runner={LOCAL_RUNNER}"])


def number_columns(columns: Columns) -> list[str]:
    """The columns of a text file that are read as numbers where they can be.

    Not that of the time: 20140701 is a day, and 1404172800 are seconds since 1970.
    """
    more = [name for name in (columns.sequence, columns.weight) if name is not None]
    return [*columns.fields, *columns.targets, *more]


def run(main: Callable[[], None]) -> None:
    """Run a command line: what the library says goes to the terminal, errors in one line."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    # It warns of every file that was not written because it would have been empty.
    logging.getLogger("apache_beam.io.filebasedsink").setLevel(logging.ERROR)
    # It logs the trace of an exception that it then raises, and that is said in one line below.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    logging.getLogger("beam_rnn").setLevel(logging.INFO)
    try:
        main()
    except (BeamRnnError, OSError) as error:
        sys.exit(f"error: {error}")
