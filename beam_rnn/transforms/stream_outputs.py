"""How all stream transforms check their records, step their keys and name their outputs."""

from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.models.model import Model
from beam_rnn.records.results import INVALID, EndedSequence, InvalidRecord, LateRecord, SequenceGap
from beam_rnn.streaming.outputs import ENDED, GAPS, LATE, MODELS

FURTHER: dict[str, Any] = {
    LATE: LateRecord,
    INVALID: InvalidRecord,
    ENDED: EndedSequence,
    GAPS: SequenceGap,
    MODELS: tuple[str, Model],
}
"""The outputs of a step besides its results, with the types of their elements."""


class Checked(NamedTuple):
    """Records that were read and checked.

    Attributes:
        records: Keys, or shards, and blocks of their records.
        invalid: Dead letters: records that cannot be used.
    """

    records: PCollection[tuple[str, bytes]]
    invalid: PCollection[InvalidRecord]


def check_records(pcoll: PCollection[Any], check: beam.DoFn) -> Checked:
    """Return records, checked before anything else.

    Args:
        pcoll: The records.
        check: Reads them: `PackRecords`, or one like it.
    """
    outputs = pcoll | "Check" >> beam.ParDo(check).with_output_types(
        tuple[str, bytes], invalid=InvalidRecord
    ).with_outputs(INVALID, main="checked")
    return Checked(outputs.checked, outputs.invalid)


def step_keys(
    checked: Checked,
    step: beam.ParDo,
    label: str,
    outputs: Any,
    kind: Any,
    *,
    refuses: bool = True,
) -> Any:
    """Return the outputs of a transform that steps keys.

    Args:
        checked: The records.
        step: Steps them.
        label: The name of the step in the graph, by which a job that is updated finds its state.
        outputs: The NamedTuple of the outputs: its first field is that of the results, the others
            are in `FURTHER`.
        kind: The type of a result.
        refuses: Whether the step too has dead letters.
    """
    main, *names = outputs._fields
    tags = [name for name in names if refuses or name != INVALID]
    kinds = {name: FURTHER[name] for name in tags}
    stepped = checked.records | label >> step.with_output_types(kind, **kinds).with_outputs(
        *tags, main=main
    )
    found = {name: stepped[name] for name in (main, *tags)}
    found[INVALID] = checked.invalid
    if refuses:
        found[INVALID] = (checked.invalid, stepped[INVALID]) | "Invalid" >> beam.Flatten()
    return outputs(**found)
