"""What the flags of a command line say, ours and Beam's."""

import argparse
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn.errors import ConfigurationError

LOCAL_RUNNER = "FnApiRunner"
"""Where a pipeline runs if no --runner is given: in this process, with nothing to download."""


PROGRAM = "beam-rnn"


def parser(command: str | None, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring.

    Args:
        command: Which command of `beam-rnn` it is; None for a program of its own.
        description: The docstring.
    """
    return argparse.ArgumentParser(
        prog=command and f"{PROGRAM} {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --report is no --report_steps of Beam's
    )


def names(text: str) -> list[str]:
    """Column names from "A,B"."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[float]:
    """Numbers from "0.1,0.9".

    Raises:
        argparse.ArgumentTypeError: One is none.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers such as 0.1,0.9") from error


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
