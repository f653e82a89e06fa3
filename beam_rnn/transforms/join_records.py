"""Joins predictions with their records."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.metrics import Metrics

from beam_rnn.core.errors import ConfigurationError, RecordError
from beam_rnn.data.columns import Columns
from beam_rnn.records.joining import Place, joined, place_of
from beam_rnn.records.record_format import record_sequence, record_time
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import Prediction
from beam_rnn.transforms.arguments import check_type


class JoinRecords(beam.PTransform):
    """Joins predictions with their records into pairs `(record, prediction)`.

    For batch pipelines: both are in the global window, or in windows that hold a prediction with
    its record. Records are read and checked as in `Predict`: those that it refused have no
    prediction, and equal ones count once. Several records of one key, time and sequence number are
    distinguished by the order in which `Predict` steps them. If one of them was late, or a sequence
    ended between them, that is impossible: the record of the pair is None, and the counter
    `predictions_not_joined` counts it. With order="arrival" the order of such records is unknown
    here: give them a sequence number.

    Args:
        columns: Which fields of a record mean what, as `Predict` reads them: those of the model.
        records: The records that went into `Predict`, as they are.

    Raises:
        ConfigurationError: An argument of another type, or symbols without their vocabularies.
    """

    def __init__(self, columns: Columns, records: PCollection[Any]):
        super().__init__()
        check_type("columns", columns, Columns)
        check_type("records", records, PCollection)
        if not columns.has_vocabularies:
            raise ConfigurationError(
                f"JoinRecords needs the vocabularies of symbols={list(columns.symbols)}: take the "
                "columns of the model"
            )
        self._columns, self._records = columns, records

    def expand(self, pcoll: PCollection[Prediction]) -> PCollection[tuple[Any, Prediction]]:
        """Group records and predictions by key, time and sequence number, and pair them."""
        records = self._records | "Read" >> beam.ParDo(
            _ReadPlaces(self._columns)
        ).with_output_types(tuple[tuple[str, int, int], tuple[bytes, Any]])
        predictions = pcoll | "PlaceOf" >> beam.Map(place_of).with_output_types(
            tuple[tuple[str, int, int], Prediction]
        )
        return (
            {"records": records, "predictions": predictions}
            | "Together" >> beam.CoGroupByKey()
            | "Join" >> beam.ParDo(_JoinPlace()).with_output_types(tuple[Any, Prediction])
        )


class _ReadPlaces(beam.DoFn):
    """Reads the place of records; drops those that cannot be read."""

    def __init__(self, columns: Columns):
        self._columns = columns

    def setup(self) -> None:
        """Make the reader."""
        self._reader = RecordReader(self._columns)

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam
    ) -> Iterator[tuple[Place, tuple[bytes, Any]]]:
        """Yield the place of a record, with its bytes and itself."""
        try:
            key, data = self._reader.read(element, int(timestamp.micros))
        except RecordError:
            return
        yield (key, record_time(data), record_sequence(data)), (data, element)


class _JoinPlace(beam.DoFn):
    """Pairs records and predictions; counts predictions whose record is ambiguous."""

    def __init__(self) -> None:
        self._not_joined = Metrics.counter("beam_rnn", "predictions_not_joined")

    def process(
        self, element: tuple[Place, Mapping[str, Iterable[Any]]]
    ) -> Iterator[tuple[Any, Prediction]]:
        """Yield the pairs of a place, from its records and predictions."""
        found = element[1]
        for record, row in joined(found["records"], found["predictions"]):
            if record is None:
                self._not_joined.inc()
            yield record, row
