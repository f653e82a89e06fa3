"""Models to files and back."""

import os
from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.io import fileio
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.errors import ConfigurationError
from beam_rnn.keyed import Models
from beam_rnn.storage import read_model
from beam_rnn.training import WriteWeights
from beam_rnn.transforms.arguments import path_of


class WriteModel(beam.PTransform):
    """Writes a model, or the `KeyedModels` of all keys, to an Arrow file, and gives the path.

    The file is written under a temporary name and renamed, so that a reader sees the old one
    or the new one and never a part.

    Args:
        path: The file, on any filesystem that Beam knows. Folders that are not there are made.

    Raises:
        ConfigurationError: At construction of the pipeline: models of several windows, which
            would overwrite each other.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__()
        self._path = path_of("path", path)

    def expand(self, pcoll: PCollection[Models]) -> PCollection[str]:
        """Gather the models of a path, which must be one, and write it."""
        if not isinstance(pcoll.windowing.windowfn, GlobalWindows):
            raise ConfigurationError(
                f"the models of all windows of {pcoll.windowing.windowfn} would overwrite each "
                f"other in {self._path!r}: put them into the global window, or train on it"
            )
        path = self._path
        return (
            pcoll
            | "ToPath" >> beam.Map(lambda model: (path, model))
            | "ByPath" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(WriteWeights()).with_output_types(str)
        )


class ReadModel(beam.PTransform):
    """Reads models from Arrow files: a `Model` or `KeyedModels` of each.

    Args:
        pattern: A file or a pattern of files, on any filesystem that Beam knows. That none is
            there is an error.
    """

    def __init__(self, pattern: str | os.PathLike[str]):
        super().__init__()
        self._pattern = path_of("pattern", pattern)

    def expand(self, pbegin: Any) -> PCollection[Models]:
        """Match the files and read each."""
        return (
            pbegin
            | "Match" >> fileio.MatchFiles(self._pattern, fileio.EmptyMatchTreatment.DISALLOW)
            | "Read" >> beam.Map(lambda file: read_model(file.path)).with_output_types(Models)
        )
