"""Refused records as rows: the output that `error_handling` asks for."""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.coders import registry

from beam_rnn.core.errors import BeamRnnError, ConfigurationError
from beam_rnn.portable.arguments import mapping_of, number_in
from beam_rnn.portable.schemas import time_text
from beam_rnn.records.results import InvalidRecord, LateRecord

logger = logging.getLogger(__name__)

GOOD = "good"
"""The name of the other output, as in Beam's own transforms."""

_SCHEMA = re.compile(r"^BeamSchema_\w*\(")
"""The repr of a row that a coder made begins with its schema, a UUID."""
_MISSING = re.compile(r"None|nan|np\.float\d+\(nan\)")
"""The repr of a missing value."""


class RefusedRecord(NamedTuple):
    """A record that was not used: the three fields of Beam's error rows, and two more.

    Attributes:
        element: The record, as its Python repr, shortened if it is long; for a late one, the inputs
            of the network.
        msg: What is wrong with it, with the value.
        stack: Always empty: the record is wrong, not the code.
        key: Its key, as text; empty if it has none that can be used.
        late: Whether it was late, and nothing else is wrong with it.
    """

    element: str
    msg: str
    stack: str
    key: str
    late: bool


registry.register_row(RefusedRecord)


def output_name(error_handling: Any) -> str | None:
    """Return the name of the output that `error_handling` asks for; None if it was left out.

        >>> output_name({"output": "refused"})
        'refused'

    Raises:
        ConfigurationError: It is not a mapping with an output, or the name is taken.
    """
    if error_handling is None:
        return None
    given = mapping_of("error_handling", error_handling)
    name = given.get("output")
    if set(given) != {"output"} or not isinstance(name, str) or name in ("", GOOD):
        raise ConfigurationError(
            "error_handling must be {output: NAME}, NAME being that of a further output and not "
            f"{GOOD!r}, got {given!r}"
        )
    return name


def with_refused(
    good: PCollection[Any],
    output: str | None,
    invalid: PCollection[InvalidRecord],
    late: PCollection[LateRecord] | None = None,
    *,
    drops: bool = False,
) -> Any:
    """Return the outputs of a transform, with one for refused records if it has a name.

    Without it an invalid record stops the pipeline, as in Beam's own transforms. Late records are
    counted and are no error: a stream always has some.

    Args:
        good: The other rows.
        output: The name of the output, if there is one.
        invalid: Dead letters.
        late: Late records.
        drops: Whether records with a missing value are no error either.
    """
    if output is None:
        _ = invalid | "Stop" >> beam.Map(stop, drops)
        return good
    rows = beam.ParDo(Refuse(of_invalid)).with_output_types(RefusedRecord)
    refused = [invalid | "Invalid" >> rows]
    if late is not None:
        rows = beam.ParDo(Refuse(of_late)).with_output_types(RefusedRecord)
        refused.append(late | "Late" >> rows)
    return {GOOD: good, output: refused | "Refused" >> beam.Flatten()}


def stop(row: InvalidRecord, drops: bool) -> None:
    """Stop the pipeline at an invalid record.

    Args:
        row: The record.
        drops: Continue if a value is missing.

    Raises:
        BeamRnnError: The record is an error.
    """
    if drops and _MISSING.fullmatch(row.value):
        return
    refused = of_invalid(row)
    raise BeamRnnError(
        f"{refused.msg} in the record {refused.element}: correct it, or take such records as "
        "a further output with error_handling: {output: NAME}"
    )


class Refuse(beam.DoFn):
    """Makes rows of refused records; the log shows the first of each bundle.

    Args:
        row_of: Makes the row.
    """

    def __init__(self, row_of: Callable[[Any], RefusedRecord]):
        self._row_of = row_of

    def start_bundle(self) -> None:
        """Start with nothing shown."""
        self._shown = False

    def process(self, element: Any) -> Iterator[RefusedRecord]:
        """Yield the row of a dead letter or a late record."""
        row = self._row_of(element)
        if not self._shown:
            logger.warning(
                "refused, the first of its bundle: %s, in the record %s", row.msg, row.element
            )
            self._shown = True
        yield row


def of_invalid(row: InvalidRecord) -> RefusedRecord:
    """Return a dead letter as a refused record.

    >>> of_invalid(InvalidRecord("a", "x must be finite", "nan", "BeamSchema_7f_2a(x=nan)")).element
    'Row(x=nan)'
    """
    element = _SCHEMA.sub("Row(", row.record)
    msg = f"{row.reason}, got {row.value}{advice_on(row)}"
    return RefusedRecord(element, msg, "", row.key, late=False)


def advice_on(row: InvalidRecord) -> str:
    """Return what to do about a record, if Beam YAML has a remedy.

    >>> advice_on(InvalidRecord("a", "x must be a number", "'59.36'", ""))
    ': the column was read as text: see docs/yaml.md'
    >>> advice_on(InvalidRecord("a", "x must be a number", "'broken'", ""))
    ''
    """
    if row.reason.startswith("the element's timestamp "):
        return ": name the field of the time in columns, or put AssignTimestamps before"
    is_text = row.reason.endswith(" must be a number") and row.value[:1] in {"'", '"'}
    if is_text and number_in(row.value[1:-1].replace(",", ".")) is not None:
        return ": the column was read as text: see docs/yaml.md"
    return ""


def of_late(row: LateRecord) -> RefusedRecord:
    """Return a late record as a refused one.

    >>> of_late(LateRecord("pump", 1_000_000, 2_500_000, [0.5], 0)).msg
    'late by 2.5 s: the hidden state of its key had passed 1970-01-01T00:00:01Z'
    """
    seconds = row.behind / 1e6
    at = time_text(row.time)
    msg = f"late by {seconds:g} s: the hidden state of its key had passed {at}"
    return RefusedRecord(str(list(row.inputs)), msg, "", row.key, late=True)
