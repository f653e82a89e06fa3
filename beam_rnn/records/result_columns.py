"""The flat columns of predictions and scores: in Arrow batches, files, rows of Beam YAML and JSON.

A flat row has the key and the time of its record, a column for each output, and one for each
further field: `step` of a `Prediction` is `prediction_step`. A field that is added to `Prediction`
or `AnomalyScore` is a column everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

import pyarrow as pa

from beam_rnn.core.errors import ConfigurationError, RecordError
from beam_rnn.records.results import AnomalyScore, Prediction

PREDICTION_FIELDS = tuple(
    name
    for name in Prediction._fields
    if name not in ("key", "time", "outputs", "state", "sequence")
)
"""The fields of a `Prediction` that are a column each: those after the outputs."""
SCORE_FIELDS = tuple(
    name
    for name in AnomalyScore._fields
    if name not in ("key", "time", "values", "predictions", "sequence")
)
"""The fields of an `AnomalyScore` that are a column each."""


def prediction_columns(output_names: Iterable[str]) -> dict[str, type]:
    """Return the columns of a prediction, behind key and time, and their types.

        >>> list(prediction_columns(["x"]))
        ['x_prediction', 'prediction_step', 'prediction_model', 'prediction_kernel']

    Args:
        output_names: `Model.output_names`.
    """
    kinds = Prediction.__annotations__
    outputs: dict[str, type] = {f"{name}_prediction": float for name in output_names}
    return outputs | {f"prediction_{name}": kinds[name] for name in PREDICTION_FIELDS}


def prediction_values(prediction: Prediction) -> list[Any]:
    """Return the values of `prediction_columns`.

    >>> prediction_values(Prediction("a", 0, 1, [2.5], "3f", b"", 0, "numpy"))
    [2.5, 1, '3f', 'numpy']
    """
    return [*prediction.outputs, *(getattr(prediction, name) for name in PREDICTION_FIELDS)]


def score_columns(target_names: Sequence[str]) -> dict[str, Any]:
    """Return the columns of an anomaly score, behind key and time, and their types.

        >>> list(score_columns(["x"]))[:4]
        ['x_value', 'x_expected', 'anomaly_step', 'anomaly_score']

    Args:
        target_names: `Columns.target_names`.
    """
    kinds = AnomalyScore.__annotations__
    return (
        {f"{name}_value": float for name in target_names}
        | {expected_column(name): Optional[float] for name in target_names}
        | {score_column(name): kinds[name] for name in SCORE_FIELDS}
    )


def expected_column(target: str) -> str:
    """Return the column of what had been predicted of a target, one record before."""
    return f"{target}_expected"


def score_column(field: str) -> str:
    """Return the column of a field of an `AnomalyScore`."""
    return f"anomaly_{field}"


def score_values(score: AnomalyScore) -> list[Any]:
    """Return the values of `score_columns`; None for what was not predicted."""
    expected: Sequence[float | None] = score.predictions or [None] * len(score.values)
    return [*score.values, *expected, *(getattr(score, name) for name in SCORE_FIELDS)]


UTC = pa.timestamp("us", "UTC")
"""Event times in files."""
TEXT = pa.dictionary(pa.int32(), pa.string())
"""Texts in Arrow batches: a batch has few different ones."""


def arrow_fields(columns: Mapping[str, type], text: pa.DataType = TEXT) -> list[pa.Field]:
    """Return columns as Arrow fields."""
    kinds = {float: pa.float64(), int: pa.int64(), str: text}
    return [pa.field(name, kinds[kind]) for name, kind in columns.items()]


def prediction_fields(output_names: Iterable[str], state_size: int = 0) -> list[pa.Field]:
    """Return the fields that `Predict` adds to Arrow batches."""
    added = arrow_fields(prediction_columns(output_names))
    if state_size:
        added.append(pa.field("prediction_state", pa.list_(pa.float32(), state_size)))
    return added


def with_columns(schema: pa.Schema, added: Iterable[pa.Field]) -> pa.Schema:
    """Return the schema of batches with the fields that `Predict` adds.

    Raises:
        RecordError: The batches have a column of such a name already.
    """
    added = list(added)
    taken = sorted({field.name for field in added} & set(schema.names))
    if taken:
        reason = f"the batches have a column {taken[0]!r} already, which Predict adds: rename it"
        raise RecordError(reason, taken[0])
    return pa.schema([*schema, *added], schema.metadata)


def prediction_schema(
    schema: pa.Schema, output_names: Sequence[str], state_size: int = 0
) -> pa.Schema:
    """Return the schema of batches after `Predict`.

        >>> schema = pa.schema([("id", pa.string()), ("x", pa.float64())])
        >>> prediction_schema(schema, ["x"]).names
        ['id', 'x', 'x_prediction', 'prediction_step', 'prediction_model', 'prediction_kernel']

    Args:
        schema: That of the batches before.
        output_names: `Model.output_names`.
        state_size: `Model.state_size`, with `Predict(with_state=True)`; else 0.

    Raises:
        ConfigurationError: The batches have a column of such a name already.
    """
    try:
        return with_columns(schema, prediction_fields(output_names, state_size))
    except RecordError as error:
        raise ConfigurationError(error.reason) from error
