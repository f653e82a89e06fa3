"""Gives the models of a worker, and what reads records for them, to the DoFns there."""

from functools import partial

import pyarrow as pa
from apache_beam.utils.shared import Shared

from beam_rnn.models.model_checks import Check, check_streams
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.result_columns import prediction_fields
from beam_rnn.streaming.model_library import Library


class ModelLoader:
    """Gives the library of a process to the DoFns in it.

    Args:
        pattern: A weights file, or a pattern of files, of which the last by name is the newest.
        watch: How often to look for a newer one, in seconds; None for never.
        kernel: What computes: see `beam_rnn.nn.kernels.KERNELS`.
        check: Raises for a model that cannot be used.
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
        """Return the library; the first call in a process makes it."""
        if self._library is None:
            self._library = self._shared.acquire(
                partial(Library, self.pattern, self._kernel, self._check), tag=self.pattern
            )
        return self._library

    def reader(self) -> ColumnReader:
        """Return what reads records as the model was trained."""
        columns = self.library().newest.columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        return ColumnReader(columns)

    def start_bundle(self) -> Library:
        """Return the library, after a look for a newer model, if it is time; count its loads."""
        library = self.library()
        library.refresh(self._watch)
        library.report()
        return library

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_library": None}


def reader_of(loader: ModelLoader, *, with_state: bool = False) -> BatchReader:
    """Return what reads Arrow batches as the model was trained."""
    library = loader.library()
    columns = library.newest.columns
    assert columns is not None, "a model without columns is refused when it is loaded"

    def added() -> list[pa.Field]:
        newest = library.newest
        return prediction_fields(newest.output_names, newest.state_size if with_state else 0)

    return BatchReader(columns, added)
