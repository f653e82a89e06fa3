"""The models that a process has in memory: the newest, and those that open sequences still use."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple, TypeVar

from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from beam_rnn.core.errors import ConfigurationError, StateError, WeightsError
from beam_rnn.models.keyed_models import KeyedModels, Models
from beam_rnn.models.model import Model
from beam_rnn.models.model_checks import Check, check_same_records, warm_up
from beam_rnn.training.model_files import read_model

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

Version = tuple[str, int, float]
"""A file as it was at some time: path, size, time of its last change; of a path of `models=`, the
path alone."""


UNUSED_AFTER = 600.0
"""An older model is dropped when no sequence asked for it for this many seconds."""
RETRY_AFTER, RETRY_AT_MOST = 1.0, 600.0
"""The seconds after which a path of `models=` that cannot be used is tried again: doubled after
each failure, up to the second number."""


class Content(NamedTuple):
    """What was in a file."""

    digest: str
    kernel: str
    keyed: bool


class Held(NamedTuple):
    """Models in memory, and when a sequence last asked for them, by `time.monotonic`."""

    models: Models
    used: float


class Library:
    """The models that one process has in memory; shared by the DoFns that read the same files.

    These are the newest model, the one before it, and those that sequences asked for in the last
    `UNUSED_AFTER` seconds. Any other is read again from its file when a sequence asks for it.

    Args:
        pattern: The files; the last by name is the newest.
        kernel: What computes.
        check: Raises for a model that cannot be used.

    Raises:
        FileNotFoundError: There is no file.
        OSError: The newest one cannot be read.
        WeightsError: None of the files can be used.
    """

    def __init__(self, pattern: str, kernel: str, check: Check):
        self._pattern = pattern
        self._kernel = kernel
        self._check = check
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], Held] = {}  # by digest and kernel
        self._read: dict[Version, Content] = {}
        self._refused: set[Version] = set()
        self._given: list[str] = []  # the paths of `models=`, the newest first
        self._retry_at, self._retry_after = float("inf"), RETRY_AFTER
        self._looked = float("-inf")
        self._logged: set[str] = set()  # what failed, until it can be read again
        self._milliseconds: list[int] = []  # of the loads that no metric has counted yet
        self._failures: list[str] = []  # the metrics that have not counted one yet
        self.newest: Models = self._hold(self._first())
        self._before = self.newest

    def refresh(self, seconds: float | None) -> None:
        """Look for a newer model, if the last look was at least `seconds` ago.

        A look that fails leaves the model as it is, and is repeated as any other.
        """
        if len(self._held) > 1:
            with self._lock:
                self._forget()
        if seconds is None or time.monotonic() - self._looked < seconds:
            return
        with self._lock:
            if time.monotonic() - self._looked >= seconds:
                self._look()

    def use(self, paths: Iterable[str]) -> None:
        """Take the last of these paths, by name, that can be used as the newest model."""
        given = sorted(set(paths), reverse=True)
        if not given or (given == self._given and time.monotonic() < self._retry_at):
            return
        with self._lock:
            again = given == self._given
            self._retry_after = min(2 * self._retry_after, RETRY_AT_MOST) if again else RETRY_AFTER
            self._given, self._retry_at = given, float("inf")
            for path in given:
                models = self._usable((path, 0, 0.0))
                if models is not None:
                    self._take(models)
                    return
                self._retry_at = time.monotonic() + self._retry_after

    def made_by(self, digest: str, kernel: str) -> Model:
        """Return the model with that digest, computed by that kernel.

        Raises:
            StateError: No file that can be read has it, or the kernel is not available.
            OSError: The files cannot be listed.
        """
        with self._lock:
            model = self._in_memory(digest, kernel)
            if model is None and self._in_files(digest):
                model = self._in_memory(digest, kernel)
        if model is None:
            raise StateError(
                f"stored state was made by the model {digest}, which none of the files of "
                f"{self._pattern!r}"
                + (f" and of the {len(self._given)} paths of models=" if self._given else "")
                + " holds: keep its file, start the job without its old state, or "
                "say Predict(on_model_change='reset') or 'replay'"
            )
        return model

    def report(self) -> None:
        """Count what was loaded; in a bundle, since Beam takes no metrics in `setup`."""
        size = self.newest.nbytes
        for milliseconds in _emptied(self._milliseconds):
            Metrics.distribution("beam_rnn", "load_model_latency_milli_secs").update(milliseconds)
            Metrics.distribution("beam_rnn", "model_byte_size").update(size)
        for name in _emptied(self._failures):
            Metrics.counter("beam_rnn", name).inc()

    def _first(self) -> Models:
        """Return the newest model that can be used, when there is none yet."""
        self._looked = time.monotonic()
        versions = self._matched()
        if not versions:
            raise FileNotFoundError(f"there is no weights file {self._pattern!r}")
        errors = []
        for version in versions:
            try:
                models = self._load(version)
            except (WeightsError, ConfigurationError) as error:
                errors.append(error)
                self._refuse(version, error)
            else:
                self._path = version[0]
                return models
        raise errors[0]

    def _look(self) -> None:
        """Take the newest file that can be used, if it is not older than that of the model here.

        So a file that is truncated or removed does not bring back the model before it.
        """
        self._looked = time.monotonic()
        try:
            versions = self._matched()
        except Exception as error:  # noqa: BLE001  # each filesystem has errors of its own
            self._unreachable(self._pattern, error)
            return
        self._logged.discard(self._pattern)
        self._logged &= {version[0] for version in versions} | {*self._given}
        gone = self._read.keys() - {*versions, *((path, 0, 0.0) for path in self._given)}
        for version in gone:
            del self._read[version]
        self._refused &= set(versions)
        for version in versions:
            if version[0] < self._path:
                return
            models = None if version in self._refused else self._usable(version)
            if models is not None:
                self._path = version[0]
                self._take(models)
                return

    def _matched(self) -> list[Version]:
        """Return the files, the newest first: the last by name."""
        matches = FileSystems.match([self._pattern])[0].metadata_list
        versions = [(m.path, m.size_in_bytes, m.last_updated_in_seconds) for m in matches]
        return sorted(versions, reverse=True)

    def _usable(self, version: Version) -> Models | None:
        """Return the models of a file; None if they cannot be used now, which is logged."""
        read = self._read.get(version)
        if read is not None and read[:2] in self._held:
            return self._held[read[:2]].models
        try:
            return self._load(version)
        except (WeightsError, ConfigurationError) as error:
            self._refuse(version, error)
        except Exception as error:  # noqa: BLE001  # each filesystem has errors of its own
            self._unreachable(version[0], error)
        return None

    def _load(self, version: Version) -> Models:
        """Read a file."""
        path = version[0]
        started = time.monotonic()
        models: Models = read_model(path).with_kernel(self._kernel)
        self._check(models, path)
        if hasattr(self, "newest"):
            check_same_records(self.newest, models, path)
        warm_up(models)
        self._milliseconds.append(int((time.monotonic() - started) * 1000))
        keyed = isinstance(models, KeyedModels)
        self._read[version] = Content(models.digest, models.kernel, keyed)
        self._refused.discard(version)
        self._logged.discard(path)
        logger.info(
            "loaded %s: %s, digest %s, kernel %s",
            path,
            models.network.to_json(),
            models.digest[:12],
            models.kernel,
        )
        return models

    def _refuse(self, version: Version, error: Exception) -> None:
        """Log a file that cannot be used, and do not read it again until it changes."""
        if version not in self._refused:
            self._refused.add(version)
            self._failures.append("models_broken")
            logger.warning(
                "cannot use the model in %r, the current one stays in use: %s", version[0], error
            )

    def _unreachable(self, what: str, error: Exception) -> None:
        """Log a file or a folder that cannot be read now, and will be tried again."""
        self._failures.append("models_unreachable")
        if what not in self._logged:
            self._logged.add(what)
            logger.warning(
                "cannot read %r, which is retried; the current model stays in use: %s: %s",
                what,
                type(error).__name__,
                error,
            )

    def _take(self, models: Models) -> None:
        """Let these be the newest."""
        models = self._hold(models)
        if models is not self.newest:
            self._before, self.newest = self.newest, models
            self._forget()

    def _hold(self, models: Models, used: float = float("-inf")) -> Models:
        """Keep models in memory; return the equal ones that are there already, if any."""
        key = models.digest, models.kernel
        if key in self._held:
            models, used = self._held[key].models, max(used, self._held[key].used)
        self._held[key] = Held(models, used)
        return models

    def _forget(self) -> None:
        """Drop models, except the newest two and those asked for recently."""
        oldest = time.monotonic() - UNUSED_AFTER
        self._held = {
            key: held
            for key, held in self._held.items()
            if held.used > oldest or held.models is self.newest or held.models is self._before
        }

    def _in_memory(self, digest: str, kernel: str) -> Model | None:
        """Return the model with that digest, of those in memory.

        Raises:
            StateError: The kernel is not available.
        """
        found = None
        for (_, computed_by), held in self._held.items():
            if held.models.with_digest(digest) is not None:
                found = held.models
                if computed_by == kernel:
                    break
        if found is None:
            return None
        try:
            models = found if found.kernel == kernel else found.with_kernel(kernel)
        except ConfigurationError as error:
            raise StateError(f"stored state cannot be continued: {error}") from error
        return self._hold(models, time.monotonic()).with_digest(digest)

    def _in_files(self, digest: str) -> bool:
        """Read the files that may hold a model, the newest first; return True if one does."""
        given = [(path, 0, 0.0) for path in self._given]
        for version in [*given, *self._matched()]:
            read = self._read.get(version)
            if version in self._refused or (
                read is not None and not read.keyed and read.digest != digest
            ):
                continue
            models = self._usable(version)
            if models is not None and models.with_digest(digest) is not None:
                self._hold(models)
                return True
        return False


def _emptied(values: list[_T]) -> Iterator[_T]:
    """Yield the values of a list, and remove each: other threads may do so too."""
    with suppress(IndexError):
        while True:
            yield values.pop()
