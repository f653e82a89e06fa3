"""Files of records and of rows: CSV, Parquet, Arrow and JSON lines, by suffix."""

import importlib
from typing import TYPE_CHECKING, Any

from beam_rnn.core.atomic_files import replacing
from beam_rnn.files.row_reader import json_record
from beam_rnn.files.row_writer import json_line

if TYPE_CHECKING:
    from beam_rnn.files.read import ReadFiles, read_file
    from beam_rnn.files.set_aside import WriteAside
    from beam_rnn.files.write import WriteFile

__all__ = [
    "ReadFiles",
    "WriteAside",
    "WriteFile",
    "json_line",
    "json_record",
    "read_file",
    "replacing",
]

_IN_PIPELINES = {
    "ReadFiles": "read",
    "read_file": "read",
    "WriteAside": "set_aside",
    "WriteFile": "write",
}
"""The modules of names that are imported on first use: they import Beam."""


def __getattr__(name: str) -> Any:
    if name not in _IN_PIPELINES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"beam_rnn.files.{_IN_PIPELINES[name]}"), name)
