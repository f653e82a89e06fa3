"""Writes models to files, and reads them."""

import os
from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.io import fileio
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.models.weights_format import AnyModel
from beam_rnn.records.results import EpochLoss
from beam_rnn.training.model_files import read_any_model
from beam_rnn.training.task import Trained
from beam_rnn.transforms.arguments import path_of, window_text
from beam_rnn.transforms.write_dofns import NameModel, WriteWeights, losses_of


class WriteModel(beam.PTransform):
    """Writes a model, or the `KeyedModels` of all keys, to an Arrow file, and gives its path.

    The file is written under a temporary name and renamed: a reader sees the old file or the new
    one, never a part.

    Args:
        path: The file, on any filesystem that Beam knows. Missing folders are created. For models
            of several windows it must contain "{end}", which is replaced by the end of the window,
            such as 20240131T235959Z: these names sort by time.

    Raises:
        ConfigurationError: When the pipeline is built: models of several windows would overwrite
            each other.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__()
        self._path = path_of("path", path)

    def expand(self, pcoll: PCollection[AnyModel]) -> PCollection[str]:
        """Group the models by path, and write the only one of each."""
        windowed = not isinstance(pcoll.windowing.windowfn, GlobalWindows)
        if windowed and "{end}" not in self._path:
            raise ConfigurationError(
                f"the models of all windows of {window_text(pcoll.windowing.windowfn)} would "
                f"overwrite each other in {self._path!r}: put them into the global window, or "
                "write to a path with '{end}' in it"
            )
        return (
            pcoll
            | "ToPath" >> beam.ParDo(NameModel(self._path))
            | "ByPath" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(WriteWeights()).with_output_types(str)
        )


class ReadModel(beam.PTransform):
    """Reads models from Arrow files: a `Model`, `Transducer` or `KeyedModels` from each.

    Args:
        pattern: A file or a pattern of files, on any filesystem that Beam knows. It is an error
            if no file matches.
    """

    def __init__(self, pattern: str | os.PathLike[str]):
        super().__init__()
        self._pattern = path_of("pattern", pattern)

    def expand(self, pbegin: Any) -> PCollection[AnyModel]:
        """Match the files and read each."""
        return (
            pbegin
            | "Match" >> fileio.MatchFiles(self._pattern, fileio.EmptyMatchTreatment.DISALLOW)
            | "Read" >> beam.Map(lambda file: read_any_model(file.path)).with_output_types(AnyModel)
        )


class LossCurve(beam.PTransform):
    """Gives the losses of each epoch of a model's training, as rows."""

    def expand(self, pcoll: PCollection[Trained]) -> PCollection[EpochLoss]:
        """Give one row for each epoch."""
        return pcoll | "Losses" >> beam.FlatMap(losses_of).with_output_types(EpochLoss)
