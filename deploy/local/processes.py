"""Programs that run beside a test or benchmark, and what they are waited for."""

import argparse
import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from typing_extensions import Self

T = TypeVar("T")


class EngineError(RuntimeError):
    """A program did not do what it was started for."""


class Started:
    """What is started and stopped: as a context, even if it does not start."""

    def start(self) -> None:
        """Start it."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop it, whatever of it runs."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Process:
    """A program in a session of its own; what it prints goes to a file.

    Args:
        name: What it is called in messages.
        command: The program and its arguments.
        log: The file.
        environment: Variables beside those of this process.
        folder: Where it runs; by default where this process does.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ):
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(  # commands of this package
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def memory(self) -> int:
        """The resident bytes of the program and of all that it has started."""
        kib = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):  # a process that has just ended
                fields = dict(
                    re.findall(r"^(NSsid|VmRSS):\s+(\d+)", status.read_text(), re.MULTILINE)
                )
                if fields.get("NSsid") == str(self._popen.pid):
                    kib += int(fields.get("VmRSS", 0))
        return 1024 * kib

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def wait(self, seconds: float) -> int:
        """Its exit code.

        Raises:
            EngineError: It did not end in time.
        """
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{self.name} runs after {seconds:g} s:\n{self.said()}") from error

    def interrupt(self) -> None:
        """What Ctrl-C does: to it, and to all that it has started."""
        os.killpg(self._popen.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill -9 of the program alone, not of what it has started."""
        self._popen.kill()
        self._popen.wait()

    def stop(self, seconds: float = 5) -> None:
        """End it, and all that it has started."""
        self._popen.terminate()
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        with contextlib.suppress(ProcessLookupError):  # nothing is left of the session
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def said(self, lines: int = 30) -> str:
        """The last lines that it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def wait_for(
    what: str,
    condition: Callable[[], T | None],
    seconds: float = 90,
    process: Process | None = None,
) -> T:
    """What a condition says as soon as that is something.

    Raises:
        EngineError: It says nothing in time, or the process ended that was to bring it about.
    """
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if process is not None and not process.runs:
            raise EngineError(f"{process.name} ended before {what}:\n{process.said()}")
        if time.monotonic() > end:
            said = "" if process is None else f":\n{process.said()}"
            raise EngineError(f"no {what} in {seconds:g} s{said}")
        time.sleep(0.1)


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody listens to a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def check_free(port: int, flag: str) -> None:
    """That nobody listens to a port, before a program is started that is to listen there.

    Args:
        port: The port.
        flag: What gives it another one.

    Raises:
        EngineError: Somebody does; whoever asks there would be answered by a stranger.
    """
    if listens(port):
        raise EngineError(f"{port} is taken by another program: stop it, or give {flag} PORT")


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[Path]:
    """A folder, made if it is not there, that no other process uses meanwhile.

    Raises:
        EngineError: One does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(f"{folder} is used by one that runs: take another folder") from error
        yield folder


def port(text: str) -> int:
    """A port, from a command line.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a whole number below 65536")
    return int(text)


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """What a command line does until Ctrl-C or SIGTERM; an engine's error is said in one line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    except EngineError as error:
        sys.exit(f"error: {error}")


def watch(processes: Callable[[], Sequence[Process]]) -> NoReturn:
    """Wait for a signal, or for a process that ends by itself.

    Raises:
        EngineError: One has ended.
    """
    while True:
        for process in processes():
            if not process.runs:
                raise EngineError(f"{process.name} has ended:\n{process.said()}")
        time.sleep(0.5)
