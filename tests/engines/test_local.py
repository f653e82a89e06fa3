"""Engines on this machine: errors before a program starts and while it runs."""

import argparse
import json
import socket
import subprocess
import sys

import pytest

from deploy.local import flink, kafka, worker
from deploy.local.processes import (
    EngineError,
    Process,
    alone_in,
    check_free,
    free_port,
    port,
    watch,
)


@pytest.fixture
def taken():
    """A port that another program uses."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        yield stranger.getsockname()[1]


def test_a_used_port_is_refused(taken):
    with pytest.raises(EngineError, match=f"^port {taken} is used .* give --rest PORT$"):
        check_free(taken, "--rest")

    check_free(free_port(), "--rest")


@pytest.mark.parametrize(
    ("engine", "flag"),
    [
        (lambda folder, port: flink.Flink(folder, rest=port), "--rest"),
        (lambda folder, port: flink.Flink(folder, job=port), "--job"),
        (kafka.for_others, "--expansion_port"),
    ],
)
def test_an_engine_does_not_start_on_a_used_port(engine, flag, taken, tmp_path, monkeypatch):
    for module in (flink, kafka):
        monkeypatch.setattr(module, "check_fetched", lambda _jars: None)
    with pytest.raises(EngineError, match=f"port {taken} is used .* give {flag} PORT"):
        engine(tmp_path, taken).start()

    assert not list(tmp_path.iterdir())


def test_a_folder_is_used_by_one_process(tmp_path):
    with (
        alone_in(tmp_path / "new") as folder,
        pytest.raises(EngineError, match="is used by another process"),
        alone_in(folder),
    ):
        pass
    with alone_in(folder) as again:
        assert again == folder


def test_a_process_that_ends_is_noticed(tmp_path):
    command = [sys.executable, "-c", "print('out of memory')"]
    process = Process("the broker", command, tmp_path / "log")

    with pytest.raises(EngineError, match="the broker has ended:\nout of memory"):
        watch(lambda: [process])


def test_a_worker_is_started_from_a_folder_with_a_space(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "ENGINES", tmp_path / "the engines; $HOME")
    shown = tmp_path / "a program"
    shown.write_text('#!/bin/sh\nprintf "%s\\n" "$ENGINES" "$PYTHONPATH" "$@"\n')
    shown.chmod(0o755)
    monkeypatch.setattr(worker.sys, "executable", str(shown))

    program = json.loads(worker.command(tmp_path, "java"))["command"]
    command = [program, "--id=a b"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603

    assert said.splitlines() == [
        str(tmp_path / "the engines; $HOME"),
        str(worker.ROOT),
        *("-m", "deploy.local.worker", "java", "--id=a b"),
    ]


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http"])
def test_a_port_is_a_number(text):
    with pytest.raises(argparse.ArgumentTypeError, match="a port is a number from 1 to 65535"):
        port(text)


@pytest.mark.parametrize("module", [flink, kafka])
def test_help_does_not_start_an_engine(module, capsys):
    with pytest.raises(SystemExit) as end:
        module.parser().parse_args(["--help"])

    assert end.value.code == 0
    assert "Ctrl-C" in capsys.readouterr().out
