"""Whether the files of a command have the columns that it reads, before anything runs."""

import difflib
from collections.abc import Mapping, Sequence

from beam_rnn.cli.output_paths import found
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.text import names
from beam_rnn.data.columns import Columns
from beam_rnn.files.header import column_names
from beam_rnn.files.row_reader import ALL
from beam_rnn.records.field_values import ROW

ALWAYS = ("filename", ROW)
"""The fields that a record gets where its file has no such column."""
OF_PREDICTIONS = ("key", "time", "sequence", "start", "end", "inputs", "static", "symbols")
OF_TRAINING = (*OF_PREDICTIONS, "targets", "weight")
"""The fields of `Columns` that name what is read."""


def check_columns(source: str, read: Mapping[str, str]) -> None:
    """Check that the first file of a pattern has the columns that are read.

    A file on another filesystem is left to the workers, as is one without a record.

    Args:
        source: The file or the pattern.
        read: What names each column, such as `--inputs`, by the column.

    Raises:
        ConfigurationError: It does not have one.
        UnreadableFileError: It is not what its suffix says.
    """
    files = sorted(found(source))
    there = column_names(files[0]) if files else []
    for name, flag in read.items():
        if there and name not in (*there, *ALWAYS):
            near = difflib.get_close_matches(name, there, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigurationError(
                f"{flag}: there is no column {name!r} in {files[0]!r}; {hint}it has {names(there)}"
            )


def read_by_flags(columns: Columns) -> dict[str, str]:
    """Return the flag of `train` that names each column which is read.

    >>> read_by_flags(Columns(key="id", inputs=["x"], targets=["y"]))
    {'id': '--key', 'x': '--inputs', 'y': '--targets'}
    """
    return {name: f"--{field}" for name, field in _read(columns, OF_TRAINING).items()}


def read_by_model(
    columns: Columns, path: str, *, targets: bool = False, keep: Sequence[str] = ()
) -> dict[str, str]:
    """Return what names each column that a model reads, or that is kept beside its predictions.

    Args:
        columns: The columns of the model.
        path: Its weights file.
        targets: Whether the targets are read too.
        keep: The columns that are kept.
    """
    kept = {name: "--keep" for name in keep if list(keep) != ALL}
    read = _read(columns, OF_TRAINING if targets else OF_PREDICTIONS)
    return kept | {
        name: f"--weights {path!r} is a model of other columns ({field})"
        for name, field in read.items()
    }


def _read(columns: Columns, fields: Sequence[str]) -> dict[str, str]:
    """The columns that these fields name, each with the first one that does."""
    read: dict[str, str] = {}
    for field in fields:
        value = getattr(columns, field)
        for name in [value] if isinstance(value, str) else value or ():
            read.setdefault(name, field)
    return read
