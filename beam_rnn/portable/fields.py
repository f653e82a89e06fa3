"""The fields of the rows that come in, where a schema says them."""

from collections.abc import Sequence
from typing import Any

from apache_beam import PCollection
from apache_beam.typehints.schemas import named_fields_from_element_type

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns


def fields_of(pcoll: PCollection[Any]) -> list[str] | None:
    """The names of the fields of the elements; None where no schema says them."""
    try:
        return [name for name, _ in named_fields_from_element_type(pcoll.element_type)]
    except TypeError:
        return None


def types_of(
    pcoll: PCollection[Any], transform: str, names: Sequence[str]
) -> list[tuple[str, Any]]:
    """The fields of these names with their types.

    Args:
        pcoll: What comes in.
        transform: Whose input it is, for the error.
        names: Names of fields that `keep` has.

    Raises:
        ConfigurationError: One is not there, or there is no schema.
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
    """That the rows that come in have the fields that are read.

    Args:
        pcoll: What comes in. Without a schema nothing is checked.
        transform: Whose input it is, for the error.
        columns: What is read.
        because: Why it is read, for the error.
        targets: Whether the targets are read, too.
        weight: Whether the weight is.

    Raises:
        ConfigurationError: One is not there.
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
    """Whether elements have an attribute that is no field, as a NamedTuple may."""
    return isinstance(pcoll.element_type, type) and hasattr(pcoll.element_type, name)
