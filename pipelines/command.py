"""What the command lines share: Beam's flags, the engine, the log, errors in one line."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn.columns import Columns
from beam_rnn.errors import BeamRnnError

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


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options from the flags that our parser left over."""
    if not any(flag == "--runner" or flag.startswith("--runner=") for flag in flags):
        flags = [*flags, f"--runner={LOCAL_RUNNER}"]
    return PipelineOptions(list(flags))


def number_columns(columns: Columns) -> list[str]:
    """The columns of a text file that are read as numbers where they can be."""
    more = [name for name in (columns.time, columns.sequence) if name is not None]
    return [*columns.inputs, *columns.targets, *more]


def run(main: Callable[[], None]) -> None:
    """Run a command line: what the library says goes to the terminal, errors in one line."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    # It warns of every file that was not written because it would have been empty.
    logging.getLogger("apache_beam.io.filebasedsink").setLevel(logging.ERROR)
    logging.getLogger("beam_rnn").setLevel(logging.INFO)
    try:
        main()
    except (BeamRnnError, OSError) as error:
        sys.exit(f"error: {error}")
