"""Start, watch and stop programs that run next to a test or benchmark."""

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
    """An engine failed or was misused."""


class Started:
    """A context that starts and stops something; it also stops after a failed start."""

    def start(self) -> None:
        """Start."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop everything that runs."""
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
    """A program in its own session; its output goes to a file.

    Args:
        name: The name in messages.
        command: The program and its arguments.
        log: The file for the output.
        environment: Additional environment variables.
        folder: The working directory; by default that of this process.
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
        """The resident bytes of the program and its subprocesses."""
        kib = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):  # the process has just ended
                fields = dict(
                    re.findall(r"^(NSsid|VmRSS):\s+(\d+)", status.read_text(), re.MULTILINE)
                )
                if fields.get("NSsid") == str(self._popen.pid):
                    kib += int(fields.get("VmRSS", 0))
        return 1024 * kib

    @property
    def runs(self) -> bool:
        """True if the program has not ended."""
        return self._popen.poll() is None

    def wait(self, seconds: float) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            EngineError: The program did not end in time.
        """
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"{self.name} still runs after {seconds:g} s:\n{self.last_lines()}"
            ) from error

    def interrupt(self) -> None:
        """Interrupt the program and its subprocesses, like Ctrl-C."""
        os.killpg(self._popen.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill the program with SIGKILL, but not its subprocesses."""
        self._popen.kill()
        self._popen.wait()

    def stop(self, seconds: float = 5) -> None:
        """End the program and its subprocesses."""
        self._popen.terminate()
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        with contextlib.suppress(ProcessLookupError):  # the session is empty
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def last_lines(self, lines: int = 30) -> str:
        """Return the last lines of the output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def wait_for(
    what: str,
    condition: Callable[[], T | None],
    seconds: float = 90,
    process: Process | None = None,
) -> T:
    """Wait until a condition is true, and return its value.

    Raises:
        EngineError: The condition is not met in time, or the process that should meet it ended.
    """
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if process is not None and not process.runs:
            raise EngineError(f"{process.name} ended before {what}:\n{process.last_lines()}")
        if time.monotonic() > end:
            output = "" if process is None else f":\n{process.last_lines()}"
            raise EngineError(f"no {what} in {seconds:g} s{output}")
        time.sleep(0.1)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    """Return True if a program listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def check_free(port: int, flag: str) -> None:
    """Check that a port is free, before a program starts to listen on it.

    Args:
        port: The port.
        flag: The command-line flag of the port.

    Raises:
        EngineError: Another program listens on it; it would answer the clients.
    """
    if listens(port):
        raise EngineError(f"port {port} is used by another program: stop it, or give {flag} PORT")


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[Path]:
    """Lock a folder for this process; it is created if it does not exist.

    Raises:
        EngineError: Another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(
                f"{folder} is used by another process: choose another folder"
            ) from error
        yield folder


def port(text: str) -> int:
    """Parse a port.

    Raises:
        argparse.ArgumentTypeError: The text is not a port.
    """
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, got {text!r}")
    return int(text)


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """Run a command until Ctrl-C or SIGTERM; print an engine's error in one line."""
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
        EngineError: A process has ended.
    """
    while True:
        for process in processes():
            if not process.runs:
                raise EngineError(f"{process.name} has ended:\n{process.last_lines()}")
        time.sleep(0.5)
