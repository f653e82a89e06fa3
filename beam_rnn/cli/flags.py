"""The flags of a command line, ours and Beam's.

Beam is imported only where a flag of its own is given, or a pipeline is built.
"""

import argparse
import csv
import difflib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.filesystems import scheme_of
from beam_rnn.files.formats import SUFFIXES

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

LOCAL_RUNNER = "FnApiRunner"
"""The runner if no --runner is given: in this process, with nothing to download."""

WRONG_FLAGS = 2
"""The exit code of a command whose flags are wrong."""
UNKNOWN = "unknown flags"

PROGRAM = "beam-rnn"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the flag that was probably meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return our flags and Beam's; others are an error.

        A runner that is named may have flags of its own, which only it can check.
        """
        self._given = list(sys.argv[1:] if args is None else args)
        ours, rest = super().parse_known_args(self._given, namespace)
        unknown = unknown_to_beam(rest)
        if unknown:
            self.error(self._says_of(unknown))
        return ours, rest

    def error(self, message: str) -> NoReturn:
        """Exit with one line: what is wrong, and the flag that was probably meant."""
        message = message.removeprefix("argument ")
        if not message.startswith(UNKNOWN):
            names = [(flag, flag.split("=", maxsplit=1)[0]) for flag in self._given]
            others = [
                flag for flag, name in names if name[:2] == "--" and name not in self._known()
            ]
            unknown = [flag for flag in others if self._meant(flag)]
            message += f"; {self._says_of(unknown)}" if unknown else ""
        self.exit(WRONG_FLAGS, f"error: {message}\n")

    def _meant(self, flag: str) -> str | None:
        """Return the flag that was probably meant."""
        name = flag.split("=", maxsplit=1)[0]
        near = difflib.get_close_matches(name, self._known(), n=1, cutoff=0.75)
        return near[0] if near else None

    def _known(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]

    def _says_of(self, unknown: Sequence[str]) -> str:
        """Return the message about unknown flags."""
        meant = [flag for each in unknown if each.startswith("--") and (flag := self._meant(each))]
        hint = f"did you mean {' and '.join(meant)}?" if meant else "--help lists those there are"
        return f"{UNKNOWN}: {' '.join(unknown)}; {hint}"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with the default of each flag that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        none = default is None or default is False or default in ([], (), argparse.SUPPRESS)
        if none or action.required or "default: " in text:
            return text
        return f"{text}; default: %(default)s" if text else "default: %(default)s"


def parser(command: str | None, description: str | None) -> Parser:
    """Return a parser whose help is the module's docstring.

    Args:
        command: The command of `beam-rnn`; None for a program of its own.
        description: The docstring.
    """
    return Parser(
        prog=command and f"{PROGRAM} {command}",
        description=description,
        formatter_class=HelpFormatter,
        allow_abbrev=False,  # --report is no --report_steps of Beam's
    )


def locate(args: argparse.Namespace, beam_flags: Sequence[str], paths: Sequence[str]) -> None:
    """Make paths on this machine absolute if a runner is named: its workers may be elsewhere.

    Args:
        args: Our flags, which are changed.
        beam_flags: Beam's.
        paths: Those of ours that are paths or patterns; None stays None.
    """
    if not names_runner(beam_flags):
        return
    for name in paths:
        path = getattr(args, name)
        if path is not None and scheme_of(path) is None:
            setattr(args, name, str(Path(path).absolute()))


def names(text: str) -> list[str]:
    """Return column names from "A,B"; a name with a comma is put in double quotes, as in CSV.

    >>> names('load, "wind, at 10 m"')
    ['load', 'wind, at 10 m']

    Raises:
        argparse.ArgumentTypeError: It is more than a line.
    """
    try:
        (parts,) = csv.reader([text], skipinitialspace=True)
    except csv.Error as error:
        raise argparse.ArgumentTypeError(f"{text!r} are no names such as A,B") from error
    return [name.strip() for name in parts if name.strip()]


def share(text: str) -> float:
    """Return a share: more than 0, and at most 1.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be in (0, 1], such as 0.6, got {text!r}")
    return value


def ending(suffix: str) -> Callable[[str], str]:
    """Return the type of a flag that names a file with this suffix."""

    def path(text: str) -> str:
        if not text.endswith(suffix):
            raise argparse.ArgumentTypeError(f"must end in {suffix}, got {text!r}")
        return text

    return path


def without_ending(text: str) -> str:
    """Return a prefix of file names, which is not itself the name of a file.

    Raises:
        argparse.ArgumentTypeError: It has the ending of one.
    """
    if text.endswith((*SUFFIXES, ".json")):
        raise argparse.ArgumentTypeError(
            f"must be a prefix, to which a number and .arrow are added, got {text!r}"
        )
    return text


def unknown_to_beam(flags: Sequence[str]) -> list[str]:
    """Return the flags that Beam does not know; [] if a runner is named: it may have its own."""
    if not flags or names_runner(flags):
        return []
    return beam_parser().parse_known_args(list(flags))[1]


def beam_parser() -> argparse.ArgumentParser:
    """Return a parser of all flags that Beam knows."""
    from apache_beam.options.pipeline_options import PipelineOptions

    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(known)  # noqa: SLF001  # Beam's hook for options
    return known


def names_runner(flags: Sequence[str]) -> bool:
    """Return True if a runner is named."""
    return any(flag == "--runner" or flag.startswith("--runner=") for flag in flags)


def beam_options(flags: Sequence[str]) -> "PipelineOptions":
    """Return Beam's options from the flags that our parser left over.

    Raises:
        ConfigurationError: Beam has no such runner; or, without --runner, there is a flag that Beam
            does not know either.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    unknown = unknown_to_beam(flags)
    if unknown:
        raise ConfigurationError(f"{UNKNOWN}: {' '.join(unknown)}; --help lists those there are")
    runner = [] if names_runner(flags) else [f"--runner={LOCAL_RUNNER}"]
    options = PipelineOptions([*flags, *runner])
    _check_runner(str(options.view_as(StandardOptions).runner))
    return options


def _check_runner(name: str) -> None:
    from apache_beam.options.pipeline_options import StandardOptions
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(name)
    except ImportError as error:
        raise ConfigurationError(f"--runner {name!r} cannot be imported: {error}") from error
    except (ValueError, AttributeError) as error:
        known = [path.rpartition(".")[2] for path in StandardOptions.ALL_KNOWN_RUNNERS]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ConfigurationError(f"--runner {name!r} is none of Beam's; {hint}") from error
