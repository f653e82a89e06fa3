"""How a pipeline that has no end is waited for in a terminal, and stopped there with Ctrl-C."""

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
"""What a program exits with that Ctrl-C has ended."""
REASONS = {
    r"JobCancellationException": "the job was cancelled where it runs",
    r"Could not find any partitions info": "Kafka has no topic of the name in --input: make it",
    r"Topic (\S+) not present in metadata": r"Kafka has no topic \1, or no broker answers",
}
"""What ends of pipelines mean whose errors are the traces of a worker in Java."""


def run_until_stopped(start: Callable[[], PipelineResult], said: str, *, here: bool) -> None:
    """Start a pipeline, and wait for its end or for Ctrl-C; a second Ctrl-C ends all at once.

    Args:
        start: Starts it.
        said: What the terminal is told when it has started.
        here: It runs on this machine, for this program, and Ctrl-C cancels it. A job that was
            handed to a cluster goes on.
    """
    result, interrupted = None, threading.Event()

    def interrupt(*_: Any) -> NoReturn:
        interrupted.set()
        signal.signal(signal.SIGINT, _exit_at_once)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        result = start()
        signal.signal(signal.SIGINT, interrupt)  # Beam has put one there that a second one hangs
        print(said, file=sys.stderr, flush=True)
        result.wait_until_finish()
    except BaseException as error:
        # The runner may get the same Ctrl-C, and its end is then an error here.
        if interrupted.is_set():
            _stop(result, here=here)
        for pattern, reason in REASONS.items():
            if found := re.search(pattern, str(error)):
                sys.exit(f"error: {found.expand(reason)}")
        raise


def _stop(result: PipelineResult | None, *, here: bool) -> NoReturn:
    # The threads that talk with the runner would each say at length that it has gone.
    logging.disable()
    threading.excepthook = _say_nothing
    if result is not None and here:
        with contextlib.suppress(Exception):  # the runner may have ended before us
            result.cancel()
    goes_on = result is not None and not here
    print(
        "the job goes on: cancel it where it runs" if goes_on else "stopped",
        file=sys.stderr,
        flush=True,
    )
    sys.exit(STOPPED)


def _exit_at_once(*_: Any) -> NoReturn:
    os._exit(STOPPED)


def _say_nothing(_: Any) -> None:
    """Of an exception in a thread."""
