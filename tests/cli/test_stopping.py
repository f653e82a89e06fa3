"""An unbounded pipeline in a terminal: its messages, and the effect of Ctrl-C."""

import logging
import os
import signal
import threading

import pytest

from pipelines.stopping import run_until_stopped


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Restore what stopping changes in this process."""
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    signal.signal(signal.SIGINT, handler)
    logging.disable(logging.NOTSET)


class Running:
    """A fake result of a pipeline, whose end is a function."""

    def __init__(self, waiting, cancelling=lambda: None):
        self._waiting, self._cancelling = waiting, cancelling
        self.cancelled = False

    def wait_until_finish(self):
        self._waiting()

    def cancel(self):
        self.cancelled = True
        self._cancelling()


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def fails(message):
    def failing():
        raise RuntimeError(message)

    return failing


@pytest.mark.parametrize(
    ("here", "said"), [(True, "stopped"), (False, "the job continues: cancel it on the runner")]
)
def test_ctrl_c_cancels_a_local_pipeline_but_not_a_job_on_a_cluster(here, said, capsys):
    result = Running(ctrl_c, fails("the runner has gone"))
    with pytest.raises(SystemExit) as end:
        run_until_stopped(lambda: result, "it runs", here=here)

    assert end.value.code == 130
    assert result.cancelled == here
    assert capsys.readouterr().err.splitlines() == ["it runs", said]


def test_ctrl_c_before_the_start_stops_the_program(capsys):
    with pytest.raises(SystemExit) as end:
        run_until_stopped(ctrl_c, "it runs", here=True)

    assert end.value.code == 130
    assert capsys.readouterr().err.splitlines() == ["stopped"]


def test_a_second_ctrl_c_exits_immediately(monkeypatch):
    class ExitedError(BaseException):
        pass

    def exited(code):
        raise ExitedError(code)

    monkeypatch.setattr(os, "_exit", exited)
    with pytest.raises(ExitedError, match="130"):
        run_until_stopped(lambda: Running(ctrl_c, ctrl_c), "", here=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("... JobCancellationException: Job was cancelled.", "the job was cancelled on the runner"),
        ("Could not find any partitions info. Please", "Kafka does not have the topic of --input"),
        ("Topic out not present in metadata after 60000 ms.", "Kafka has no topic out, or"),
    ],
)
def test_a_known_error_is_printed_in_one_line(error, said):
    with pytest.raises(SystemExit, match=f"^error: {said}"):
        run_until_stopped(lambda: Running(fails(error)), "", here=True)


def test_another_error_is_raised():
    with pytest.raises(RuntimeError, match="of another kind"):
        run_until_stopped(lambda: Running(fails("of another kind")), "", here=True)
