"""One row as one line of text."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any


def json_line(row: Mapping[str, Any]) -> str:
    r"""One line of a file of JSON lines, without its end; bytes are text that is not UTF-8.

    >>> json_line({"at": 1.5, "name": b"caf\xe9"})
    '{"at": 1.5, "name": "caf\\ufffd"}'
    """
    return json.dumps(row, default=as_text)


def as_text(value: Any) -> str:
    """A value as text that every file can hold; bytes that are not UTF-8 become U+FFFD."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def csv_line(values: Sequence[Any]) -> str:
    r"""One line of a CSV file, without its end; bytes are text that is not UTF-8.

    >>> csv_line(["pump\n7", "a,b", None, 1.5])
    '"pump\n7","a,b",,1.5'
    """
    texts = [v.decode(errors="surrogateescape") if isinstance(v, bytes) else v for v in values]
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(texts)  # before 3.13 it quotes no other
    return line.getvalue().removesuffix("\r\n")
