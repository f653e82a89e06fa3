"""The columns of a file, without reading all of it."""

from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from beam_rnn.files.formats import suffix
from beam_rnn.files.row_reader import records_of
from beam_rnn.records.field_values import UNREADABLE

LOOKED_AT = 100
"""The number of records of a text file that are read to see which columns there are."""


def column_names(path: str) -> list[str]:
    """Return the columns of a file on this machine; [] if they cannot be told.

    Of JSON lines they are those of the first `LOOKED_AT` records.

    Raises:
        UnreadableFileError: It is no file of text, or has a header that cannot be used.
    """
    ending = suffix(path)
    if ending in (".parquet", ".arrow"):
        try:
            return list(_schema(path, ending).names)
        except (pa.ArrowException, OSError):
            return []  # the worker that reads it says why
    names: dict[str, None] = {}
    with open(path, "rb") as opened:
        for record in islice(records_of(opened, path), LOOKED_AT):
            if UNREADABLE not in record:
                names |= dict.fromkeys(record)
    return [name for name in names if name != "filename"]


def _schema(path: str, ending: str) -> pa.Schema:
    if ending == ".parquet":
        return pq.read_schema(path)
    with pa.memory_map(path) as source:
        return pa.ipc.open_file(source).schema
