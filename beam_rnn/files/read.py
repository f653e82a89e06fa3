"""Reads records from files in a pipeline."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.pvalue import AsList

from beam_rnn.core.filesystems import with_folder
from beam_rnn.data.columns import Columns
from beam_rnn.files.formats import whole_suffix
from beam_rnn.files.row_reader import has_row, records_of, root_of


class ReadFiles(beam.PTransform):
    """Reads the records of all files of a pattern, as dicts.

    Each record has the field `filename` unless the file has such a column: the file's path
    below the part of the pattern that has no wildcard. If `columns` name "row" as the sequence
    number, each has the field `row` unless the file has such a column: a number that increases with
    the path of the file, and with the record's place in it.

    Args:
        pattern: A file, or a pattern such as "data/*.csv".
        columns: Which fields mean what. A CSV file holds text: in columns of numbers, text that is
            a number becomes one, an empty field is a missing value, and other text is kept. Without
            `columns` all is text.
        keep: The columns whose original text is kept, in the field `AS_WRITTEN`.
    """

    def __init__(self, pattern: str, columns: Columns | None = None, keep: Collection[str] = ()):
        super().__init__()
        whole_suffix(pattern)
        self._pattern = with_folder(pattern)
        self._columns, self._keep = columns, keep

    def expand(self, pbegin: Any) -> beam.PCollection[dict[str, Any]]:
        """Match the files, distribute them over the workers, and read each."""
        root = root_of(self._pattern)
        columns, keep = self._columns, self._keep
        matched = pbegin | "Match" >> fileio.MatchFiles(
            self._pattern, fileio.EmptyMatchTreatment.DISALLOW
        )
        paths: list[Any] = []
        if has_row(columns):
            paths = [AsList(matched | "Path" >> beam.Map(lambda found: found.path))]

        def read(file: fileio.ReadableFile, paths: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
            place = sum(path < file.metadata.path for path in paths)
            return read_file(file, root, columns, keep, place)

        return (
            matched
            | "Open" >> fileio.ReadMatches()
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(read, *paths).with_output_types(dict[str, Any])
        )


def read_file(
    file: fileio.ReadableFile,
    root: str = "",
    columns: Columns | None = None,
    keep: Collection[str] = (),
    place: int = 0,
) -> Iterator[dict[str, Any]]:
    """Yield the records of one file.

    Args:
        file: A file that Beam matched.
        root: The folder to which `filename` is relative.
        columns: As for `ReadFiles`.
        keep: As for `ReadFiles`.
        place: The index of the file among several, in the order of their paths.

    Raises:
        UnreadableFileError: It is truncated, broken, or has another format than its suffix says.
    """
    path = file.metadata.path
    with file.open(compression_type=CompressionTypes.UNCOMPRESSED) as opened:
        yield from records_of(opened, path, root, columns, keep, place)
