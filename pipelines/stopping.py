"""Run an unbounded pipeline in a terminal until Ctrl-C."""

import contextlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from apache_beam.runners.runner import PipelineResult

STOPPED = 128 + signal.SIGINT
"""The exit code of a program that Ctrl-C ended."""
REASONS = {
    r"JobCancellationException": "the job was cancelled on the runner",
    r"Could not find any partitions info": "Kafka does not have the topic of --input: create it",
    r"Topic (\S+) not present in metadata": r"Kafka has no topic \1, or no broker answers",
}
"""Short messages for errors that contain the stack trace of a Java worker."""


def run_until_stopped(start: Callable[[], PipelineResult], message: str, *, here: bool) -> None:
    """Start a pipeline, and wait for its end or Ctrl-C; a second Ctrl-C exits immediately.

    Args:
        start: Starts the pipeline.
        message: Printed when the pipeline has started.
        here: True if the pipeline runs on this machine, so that Ctrl-C cancels it. A job that was
            submitted to a cluster continues.
    """
    result, interrupted = None, threading.Event()

    def interrupt(*_: Any) -> NoReturn:
        interrupted.set()
        signal.signal(signal.SIGINT, _exit_at_once)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        result = start()
        signal.signal(signal.SIGINT, interrupt)  # a second Ctrl-C hangs in Beam's own
        print(message, file=sys.stderr, flush=True)
        result.wait_until_finish()
    except BaseException as error:
        # The runner may receive the same Ctrl-C; its end is then an error here.
        if interrupted.is_set():
            _stop(result, here=here)
        for pattern, reason in REASONS.items():
            if found := re.search(pattern, str(error)):
                sys.exit(f"error: {found.expand(reason)}")
        raise


def _stop(result: PipelineResult | None, *, here: bool) -> NoReturn:
    # Each thread that talks to the runner would log that the connection is lost.
    logging.disable()
    threading.excepthook = _ignore
    if result is not None and here:
        with contextlib.suppress(Exception):  # the runner may have ended before us
            result.cancel()
    continues = result is not None and not here
    print(
        "the job continues: cancel it on the runner" if continues else "stopped",
        file=sys.stderr,
        flush=True,
    )
    sys.exit(STOPPED)


def _exit_at_once(*_: Any) -> NoReturn:
    os._exit(STOPPED)


def _ignore(_: Any) -> None:
    """Print nothing for an exception in a thread."""
