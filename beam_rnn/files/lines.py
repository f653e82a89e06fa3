"""One row as one line of text."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any


def json_line(row: Mapping[str, Any]) -> str:
    """One line of a file of JSON lines, without its end."""
    return json.dumps(row, default=str)


def csv_line(values: Sequence[Any]) -> str:
    """One line of a CSV file, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
