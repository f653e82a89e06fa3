"""Rows and lines of a pipeline into one file."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.core.filesystems import remove
from beam_rnn.files.formats import whole_suffix
from beam_rnn.files.row_writer import in_order, write_lines, write_rows


class WriteFile(beam.PTransform):
    """Writes rows, as dicts, into one file, on one worker.

    With a schema, rows may come in any order, and that worker holds few of them. Without one, the
    elements are keys, each with its rows in order; the columns are all those that a row has. The
    worker then holds all rows and writes them by key, so the same rows give the same bytes.

    Args:
        path: The file; its suffix says how it is written: CSV, Parquet, Arrow or JSON lines.
        schema: The columns and their types, if they are known.

    Raises:
        ConfigurationError: `path` has another suffix, or is compressed and cannot be.
    """

    def __init__(self, path: str, schema: pa.Schema | None = None):
        super().__init__()
        whole_suffix(path)
        self._path, self._schema = path, schema

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Gather the elements, and write."""
        path, schema = self._path, self._schema
        if schema is None:
            return pcoll | "Write" >> Gathered(lambda groups: write_rows(in_order(groups), path))
        return pcoll | "Write" >> Gathered(lambda rows: write_rows(rows, path, schema))


class WriteLines(beam.PTransform):
    """Writes lines of text into one file, in any order.

    If there are none, there is no file: a file of an earlier run is removed.

    Args:
        path: The file.
    """

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def expand(self, pcoll: beam.PCollection[str]) -> Any:
        """Gather the elements, and write."""
        path = self._path

        def write(lines: Iterator[str]) -> None:
            first = list(itertools.islice(lines, 1))
            if first:
                write_lines(itertools.chain(first, lines), path)
            else:
                remove(path)

        return pcoll | "Write" >> Gathered(write)


class Gathered(beam.PTransform):
    """Calls a function with all elements, as one iterable: once, even if there are none.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[[Iterator[Any]], Any]):
        super().__init__()
        self._function = function

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Group them with an element that is always there, and is none of them."""
        function = self._function
        pairs = tuple[int, tuple[Any, ...]]
        none = pcoll.pipeline | "None" >> beam.Create([(0, ())]).with_output_types(pairs)
        each = (
            pcoll
            | "Together" >> beam.WindowInto(GlobalWindows())
            | "Pair" >> beam.Map(lambda element: (0, (element,))).with_output_types(pairs)
        )
        return (
            (none, each)
            | "Flatten" >> beam.Flatten()
            | "Gather" >> beam.GroupByKey()
            | "Each" >> beam.MapTuple(lambda _, all_: function(itertools.chain.from_iterable(all_)))
        )
