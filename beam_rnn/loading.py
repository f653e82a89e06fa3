"""The models that a worker has: loaded once a process, and again when there is a newer one."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from beam_rnn.errors import ConfigurationError, StateError, WeightsError
from beam_rnn.keyed import KeyedModels, Models
from beam_rnn.model import Model
from beam_rnn.reading import ColumnReader
from beam_rnn.storage import read_model

logger = logging.getLogger(__name__)

Version = tuple[str, int, float]
"""A file as it was at some time: path, size, time of its last change."""


class Library:
    """What one process has loaded; shared by the DoFns that read the same files."""

    def __init__(self, pattern: str, kernel: str, check: "Check"):
        self._pattern = pattern
        self._kernel = kernel
        self._check = check
        self._lock = threading.Lock()
        self._models: dict[str, Models] = {}  # by digest
        self._by_other_kernels: dict[tuple[str, str], Model] = {}  # for states they computed
        self._tried: dict[Version, str | None] = {}  # the digest, or None for a broken file
        self._looked = float("-inf")
        self._milliseconds: list[int] = []  # of the loads that no metric has counted yet
        self._broken = 0
        self.newest: Models = self._look(required=True)

    def refresh(self, seconds: float | None) -> None:
        """Look for a newer model, if the last look was at least so many seconds ago."""
        if seconds is None or time.monotonic() - self._looked < seconds:
            return
        with self._lock:
            if time.monotonic() - self._looked >= seconds:
                self._look(required=False)

    def use(self, paths: Iterable[str]) -> None:
        """Take the last of these paths, by name, as the newest model."""
        path = max(paths, default=None)
        if path is None:
            return
        version = (path, 0, 0.0)
        if version not in self._tried:
            with self._lock:
                self._try(version)
        digest = self._tried[version]
        if digest is not None:
            self.newest = self._models[digest]

    def made_by(self, digest: str, kernel: str) -> Model:
        """The model with that digest, computed by that kernel.

        Raises:
            StateError: No file that can be read has it, or the kernel cannot be had.
        """
        model = self._found(digest)
        if model is None:
            with self._lock:
                for version in self._matched():
                    self._try(version)
            model = self._found(digest)
        if model is None:
            raise StateError(
                f"stored state was made by the model {digest}, which none of the files of "
                f"{self._pattern!r} holds: keep its file, start the job without its old state, or "
                "say Predict(on_model_change='reset') or 'replay'"
            )
        if model.kernel == kernel:
            return model
        if (digest, kernel) not in self._by_other_kernels:
            try:
                self._by_other_kernels[digest, kernel] = model.with_kernel(kernel)
            except ConfigurationError as error:
                raise StateError(f"stored state cannot be gone on with: {error}") from error
        return self._by_other_kernels[digest, kernel]

    def _found(self, digest: str) -> Model | None:
        """The model with that digest, of those that were loaded."""
        found = (models.with_digest(digest) for models in [*self._models.values()])
        return next((model for model in found if model is not None), None)

    def report(self) -> None:
        """Count what was loaded; in a bundle, since Beam takes no metrics in `setup`."""
        if self._milliseconds:
            loaded, self._milliseconds = self._milliseconds, []
            size = self.newest.nbytes
            for milliseconds in loaded:
                Metrics.distribution("beam_rnn", "load_model_latency_milli_secs").update(
                    milliseconds
                )
                Metrics.distribution("beam_rnn", "model_byte_size").update(size)
        if self._broken:
            broken, self._broken = self._broken, 0
            Metrics.counter("beam_rnn", "models_broken").inc(broken)

    def _matched(self) -> list[Version]:
        """The files there are, the newest first: the last by name."""
        matches = FileSystems.match([self._pattern])[0].metadata_list
        versions = [(m.path, m.size_in_bytes, m.last_updated_in_seconds) for m in matches]
        return sorted(versions, reverse=True)

    def _look(self, *, required: bool) -> Models:
        """Take the newest file that can be read; if none can, raise the newest one's error."""
        self._looked = time.monotonic()
        versions = self._matched()
        if not versions and required:
            raise FileNotFoundError(f"there is no weights file {self._pattern!r}")
        first_error: Exception | None = None
        for version in versions:
            error = self._try(version)
            first_error = first_error or error
            digest = self._tried[version]
            if digest is not None:
                self.newest = self._models[digest]
                return self.newest
        if required and first_error is not None:
            raise first_error
        return self.newest

    def _try(self, version: Version) -> Exception | None:
        """Load a file that was not tried yet, as it is now; the error if it cannot be used."""
        if version in self._tried:
            return None
        path = version[0]
        started = time.monotonic()
        try:
            model: Models = read_model(path).with_kernel(self._kernel)
            self._check(model, path)
            if hasattr(self, "newest"):
                check_same_records(self.newest, model, path)
            warm_up(model)
        except (WeightsError, ConfigurationError, OSError) as error:
            self._tried[version] = None
            self._broken += 1
            logger.warning("cannot use the model in %r, the one before goes on: %s", path, error)
            return error
        self._milliseconds.append(int((time.monotonic() - started) * 1000))
        self._tried[version] = model.digest
        self._models.setdefault(model.digest, model)
        logger.info(
            "loaded %s: %s, digest %s, kernel %s",
            path,
            model.network.to_json(),
            model.digest[:12],
            model.kernel,
        )
        return None


def warm_up(models: Models) -> None:
    """One step, so that what is compiled is compiled before the first record."""
    model = models.any if isinstance(models, KeyedModels) else models
    with np.errstate(all="ignore"):
        model.forward(np.zeros((1, 1, model.inputs - model.carried), model.dtype))


Check = Callable[[Models, str], None]
"""Raises a `WeightsError` for a model, from a path, that cannot do what is asked of it."""


def check_reads(model: Models, path: str) -> None:
    """That a model can read records.

    Raises:
        WeightsError: It names no columns.
    """
    if model.columns is None:
        raise WeightsError(
            f"{path!r} names no columns, so no record can be read for it: train it in a "
            "pipeline, or give the model columns before it is written"
        )


def check_streams(model: Models, path: str) -> None:
    """That a model can step the records of a stream.

    Raises:
        WeightsError: It names no columns, or its network is bidirectional.
    """
    check_reads(model, path)
    if model.network.bidirectional:
        raise WeightsError(
            f"{path!r} holds a bidirectional network, which needs whole sequences: take "
            "PredictSequences, which has them, or Smooth, which waits for some steps more; a "
            "stream can be stepped at once by a network with bidirectional=False alone"
        )


def check_smooths(model: Models, path: str) -> None:
    """That a model has a use for steps to come.

    Raises:
        WeightsError: It names no columns, its network has one direction, or one output a
            sequence.
    """
    check_reads(model, path)
    if not model.network.bidirectional:
        raise WeightsError(
            f"{path!r} holds a network with bidirectional=False, which has no use for steps to "
            "come: Predict gives the same outputs without a lag"
        )
    if model.network.output_steps == "last":
        raise WeightsError(
            f"{path!r} holds a network with output_steps='last', which has one output for a "
            "whole sequence: take PredictSequences"
        )


def check_same_records(before: Models, model: Models, path: str) -> None:
    """That a model reads the same records as the one before it.

    Raises:
        WeightsError: It reads other fields.
    """
    assert before.columns is not None, "a model without columns is refused"
    assert model.columns is not None, "a model without columns is refused"
    if model.columns.fingerprint != before.columns.fingerprint:
        raise WeightsError(
            f"{path!r} reads {model.columns}, the model before it {before.columns}: a model that "
            "follows in a running stream reads the same fields"
        )


class ModelLoader:
    """Gives the library of a process to the DoFns in it.

    Args:
        pattern: A weights file, or a pattern of files, of which the last by name is the newest.
        watch: Look for a newer one every so many seconds; None for never.
        kernel: What computes: see `beam_rnn.kernels.KERNELS`.
        check: What a model must be fit for.
    """

    def __init__(
        self,
        pattern: str,
        watch: float | None = None,
        kernel: str = "auto",
        check: Check = check_streams,
    ):
        self.pattern = pattern
        self._kernel = kernel
        self._check = check
        self._watch = watch
        self._shared = Shared()
        self._library: Library | None = None

    def library(self) -> Library:
        """The library; made by the first call of the process."""
        if self._library is None:
            self._library = self._shared.acquire(
                partial(Library, self.pattern, self._kernel, self._check), tag=self.pattern
            )
        return self._library

    def reader(self) -> ColumnReader:
        """What reads the records that the model was trained on."""
        columns = self.library().newest.columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        return ColumnReader(columns)

    def start_bundle(self) -> Library:
        """The library, refreshed if it is time, and its loads counted."""
        library = self.library()
        library.refresh(self._watch)
        library.report()
        return library

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_library": None}
