"""The command `beam-rnn`: each of its commands is a module with `parse`, `build` and `main`.

Pipelines of your own that should behave as these commands do take `run` (progress, errors in one
line, exit codes), `check_outputs` (no input is overwritten) and the parsers of `flags`.
"""

import logging
from typing import TYPE_CHECKING, Any

from beam_rnn.cli.console import is_needed, run
from beam_rnn.cli.output_paths import BESIDE, check_outputs, folder_of

if TYPE_CHECKING:
    from beam_rnn.cli.replay import ReplayReport

__all__ = ["BESIDE", "ReplayReport", "check_outputs", "folder_of", "run"]

logging.getLogger().addFilter(is_needed)  # of what Beam logs when it is imported


def __getattr__(name: str) -> Any:
    if name != "ReplayReport":  # which imports Beam
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from beam_rnn.cli.replay import ReplayReport

    return ReplayReport
