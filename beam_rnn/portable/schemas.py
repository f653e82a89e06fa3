"""The fields of input rows, if they have a schema, and the names of output fields."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from apache_beam import PCollection
from apache_beam.typehints.schemas import named_fields_from_element_type
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.models.keyed_models import Models
from beam_rnn.training.model_files import newest, read_model
from beam_rnn.transforms.arguments import path_of


def fields_of(pcoll: PCollection[Any]) -> list[str] | None:
    """Return the names of the fields of elements; None if they have no schema."""
    try:
        return [name for name, _ in named_fields_from_element_type(pcoll.element_type)]
    except TypeError:
        return None


def types_of(
    pcoll: PCollection[Any], transform: str, names: Sequence[str]
) -> list[tuple[str, Any]]:
    """Return the fields of these names with their types.

    Args:
        pcoll: The input.
        transform: The name of the transform, for the error.
        names: The names in `keep`.

    Raises:
        ConfigurationError: A field is missing, or there is no schema.
    """
    try:
        there = dict(named_fields_from_element_type(pcoll.element_type))
    except TypeError as error:
        raise ConfigurationError(
            f"keep={list(names)} needs rows with a schema, which says their types; the input of "
            f"{transform} has elements of {pcoll.element_type}"
        ) from error
    for name in names:
        if name not in there:
            raise ConfigurationError(_not_there(transform, name, "keep names it", list(there)))
    return [(name, there[name]) for name in names]


def check_fields(
    pcoll: PCollection[Any],
    transform: str,
    columns: Columns,
    because: str = "columns name it",
    *,
    targets: bool = False,
    weight: bool = False,
) -> None:
    """Raise if input rows lack a field that is read.

    Args:
        pcoll: The input. Without a schema nothing is checked.
        transform: The name of the transform, for the error.
        columns: The columns that are read.
        because: Why they are read, for the error.
        targets: Whether the targets are read too.
        weight: Whether the weight is read too.

    Raises:
        ConfigurationError: A field is missing.
    """
    there = fields_of(pcoll)
    if there is None:
        return
    read = [columns.key, columns.time, columns.sequence, columns.start, columns.end]
    read += [*columns.fields, *columns.symbols]
    read += columns.targets if targets else []
    read += [columns.weight] if weight else []
    for name in read:
        if name is not None and name not in there and not _is_property(pcoll, name):
            raise ConfigurationError(_not_there(transform, name, because, there))


def _not_there(transform: str, name: str, because: str, there: Sequence[str]) -> str:
    return f"the input of {transform} has no field {name!r} ({because}); it has {', '.join(there)}"


def _is_property(pcoll: PCollection[Any], name: str) -> bool:
    """Return True if elements have an attribute that is no field, as a NamedTuple may."""
    return isinstance(pcoll.element_type, type) and hasattr(pcoll.element_type, name)


def field_names(names: Iterable[str]) -> list[str]:
    """Return a field name for each name, all different.

    A character that a field name cannot have becomes "_", and a name that a field cannot begin
    with gets "y" before it.

        >>> field_names(["load", "load+24 q0.9", "7", "load 24 q0.9"])
        ['load', 'load_24_q0_9', 'y7', 'load_24_q0_9_2']
    """
    found: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"\W", "_", name)
        plain = plain if plain.isidentifier() and plain[0] != "_" else f"y{plain}"
        numbered, number = plain, 1
        while numbered in found:
            number += 1
            numbered = f"{plain}_{number}"
        found[numbered] = None
    return list(found)


def time_text(micros: int) -> str:
    """Return a time in microseconds since 1970 as ISO 8601 text, which every sink can write.

    >>> time_text(1_404_172_800_000_000)
    '2014-07-01T00:00:00Z'
    """
    return Timestamp(micros=micros).to_rfc3339()


def columns_of(model: Models) -> Columns:
    """Return the columns of a model."""
    assert model.columns is not None, "a model without columns is refused when it is read"
    return model.columns


def model_of(weights: str) -> Models:
    """Return the model of a weights file, or of the last by name of a pattern.

    Raises:
        ConfigurationError: There is no file where the pipeline is built.
        WeightsError: It cannot be used.
    """
    path = path_of("weights", weights)
    try:
        return read_model(newest(path))
    except OSError as error:
        raise ConfigurationError(
            f"there is no weights file {path!r} where the pipeline is built, by Beam YAML or by an "
            f"expansion service ({error}): it names the fields that come out. Train it first, or "
            "put it on a filesystem that both this machine and the workers see"
        ) from error
