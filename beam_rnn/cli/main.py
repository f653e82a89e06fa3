"""The command `beam-rnn`, which runs one of its subcommands."""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

import beam_rnn
from beam_rnn.cli import flags
from beam_rnn.cli.console import DEBUG, run

COMMANDS = ("train", "predict", "evaluate", "anomalies", "report", "inspect", "convert", "size")
"""The commands, each a module of that name, which is imported when it is run."""


def module_of(command: str) -> ModuleType:
    """Return the module of a command."""
    return importlib.import_module(f"beam_rnn.cli.{command}")


def description() -> str:
    """Return the help: each command with the first line of its own help."""
    wide = max(map(len, COMMANDS))
    lines = [f"    {name:<{wide}}  {_first_line(module_of(name))}" for name in COMMANDS]
    return "\n".join(
        [
            "Recurrent networks for records in files: train, predict, evaluate.",
            "",
            *lines,
            "",
            f"{flags.PROGRAM} COMMAND --help lists the flags of a command.",
            f"{DEBUG} prints the trace of an error.",
        ]
    )


def _first_line(command: ModuleType) -> str:
    return (command.__doc__ or "").splitlines()[0]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names."""
    all_given = list(sys.argv[1:] if argv is None else argv)
    given = [flag for flag in all_given if flag != DEBUG]
    parser = flags.Parser(
        prog=flags.PROGRAM,
        description=description() if {*given} & {"-h", "--help"} or not given else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{flags.PROGRAM} COMMAND [flags]",
    )
    parser.add_argument("--version", action="version", version=beam_rnn.__version__)
    parser.add_argument("command", metavar="COMMAND")
    if not given:
        parser.print_help()
        raise SystemExit(2)
    name = parser.parse_args(given[:1]).command
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        parser.error(f"there is no command {name!r}; {hint}")
    run(lambda: module_of(name).main(given[1:]), debug=DEBUG in all_given)
