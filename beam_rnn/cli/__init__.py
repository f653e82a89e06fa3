"""The command `beam-rnn`: each of its commands is a module with `parse`, `build` and `main`.

Pipelines of your own that should behave as these commands do take `run` (progress, errors in one
line, exit codes), `check_outputs` (no input is overwritten) and the parsers of `flags`.
"""

import beam_rnn.streaming.quiet_beam  # noqa: F401  # before anything else imports Beam
from beam_rnn.cli.console import run
from beam_rnn.cli.output_paths import BESIDE, check_outputs, folder_of
from beam_rnn.cli.replay import ReplayReport

__all__ = ["BESIDE", "ReplayReport", "check_outputs", "folder_of", "run"]
