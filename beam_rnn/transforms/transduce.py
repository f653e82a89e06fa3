"""Map sequences to sequences of another length."""

import os
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice, check_whole
from beam_rnn.data.pair_columns import Pair, PairColumns
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.pair_reader import PairReader
from beam_rnn.records.results import INVALID, InvalidRecord, Transduced
from beam_rnn.streaming.read_records import ReadRecords
from beam_rnn.transforms.arguments import check_type, path_of, take_one
from beam_rnn.transforms.transduce_dofn import TransduceRecords


class PairsOutputs(NamedTuple):
    """What `Pairs(...).with_exception_handling()` gives."""

    pairs: PCollection[Pair]
    invalid: PCollection[InvalidRecord]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class Pairs(beam.PTransform):
    """Makes pairs of sequences to learn from, one from each record.

    A record that cannot be used stops the pipeline with an error that names the value. To continue
    without it, take it as a dead letter:

        pairs, invalid = records | Pairs(columns).with_exception_handling()

    Args:
        columns: Which fields of a record are the source and the target.
    """

    def __init__(self, columns: PairColumns):
        super().__init__()
        check_type("columns", columns, PairColumns)
        self._columns = columns
        self._dead_letters = False

    def with_exception_handling(self) -> "Pairs":
        """Return dead letters instead of raising an error: the result is `PairsOutputs`."""
        self._dead_letters = True
        return self

    def expand(self, pcoll: PCollection[Any]) -> Any:
        """Read and check each record."""
        read = ReadRecords(partial(PairReader, self._columns), strict=not self._dead_letters)
        outputs = pcoll | "Read" >> beam.ParDo(read).with_output_types(
            Pair, invalid=InvalidRecord
        ).with_outputs(INVALID, main="pairs")
        return PairsOutputs(outputs.pairs, outputs.invalid) if self._dead_letters else outputs.pairs


class TransduceOutputs(NamedTuple):
    """What `Transduce` gives.

    Attributes:
        written: One row for each record that could be used.
        invalid: Dead letters: records that cannot be used, with the reason.
    """

    written: PCollection[Transduced]
    invalid: PCollection[InvalidRecord]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class Transduce(beam.PTransform):
    """Reads the source of each record and writes a target of any length (n to m).

    A record needs the key and the source that the columns of the model name. The target does not
    depend on the other records of a batch; it has the timestamp and the window of its record.

    Args:
        weights: The weights file of an `EncoderDecoder`, on any filesystem that Beam knows.
        beam: The beam width of the search; 1 takes the most likely symbol at every step.
        limit: The greatest number of symbols to write, the end included; by default twice the
            number of the longest target in training.
        kernel: "numpy", "fused" (needs the extra `fast`), or "auto" for the fused one where it is
            available.

    Raises:
        ConfigurationError: A value outside its range.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        beam: int = 1,
        limit: int | None = None,
        kernel: str = "auto",
    ):
        super().__init__()
        self._weights = path_of("weights", weights)
        check_whole("beam", beam)
        if limit is not None:
            check_whole("limit", limit)
        check_choice("kernel", kernel, KERNELS)
        self._beam, self._limit, self._kernel = beam, limit, kernel

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Read sources and write targets, in batches."""
        write = TransduceRecords(self._weights, self._beam, self._limit, self._kernel)
        outputs = pcoll | "Write" >> beam.ParDo(write).with_output_types(
            Transduced, invalid=InvalidRecord
        ).with_outputs(INVALID, main="written")
        return TransduceOutputs(outputs.written, outputs.invalid)

    def display_data(self) -> dict[str, Any]:
        """Return what the monitoring page of a runner shows."""
        limit = "twice the longest target in training" if self._limit is None else self._limit
        return {
            "weights": self._weights,
            "beam": self._beam,
            "limit": limit,
            "kernel": self._kernel,
        }
