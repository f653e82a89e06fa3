"""Models to files and back."""

import os
from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.io import fileio
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.models.transducer import Transducer
from beam_rnn.records.results import EpochLoss
from beam_rnn.streaming.model_files import read_any_model
from beam_rnn.transforms.arguments import path_of, window_text
from beam_rnn.transforms.write_dofns import NameModel, WriteWeights, losses_of


class WriteModel(beam.PTransform):
    """Writes a model, or the `KeyedModels` of all keys, to an Arrow file, and gives the path.

    The file is written under a temporary name and renamed, so that a reader sees the old one
    or the new one and never a part.

    Args:
        path: The file, on any filesystem that Beam knows. Folders that are not there are made.
            For models of several windows it holds "{end}", for which the end of the window
            stands, as 20240131T235959Z: names in the order of time.

    Raises:
        ConfigurationError: At construction of the pipeline: models of several windows, which
            would overwrite each other.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__()
        self._path = path_of("path", path)

    def expand(self, pcoll: PCollection[Models | Transducer]) -> PCollection[str]:
        """Gather the models of a path, which must be one, and write it."""
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
    """Reads models from Arrow files: a `Model`, `Transducer` or `KeyedModels` of each.

    Args:
        pattern: A file or a pattern of files, on any filesystem that Beam knows. That none is
            there is an error.
    """

    def __init__(self, pattern: str | os.PathLike[str]):
        super().__init__()
        self._pattern = path_of("pattern", pattern)

    def expand(self, pbegin: Any) -> PCollection[Models | Transducer]:
        """Match the files and read each."""
        return (
            pbegin
            | "Match" >> fileio.MatchFiles(self._pattern, fileio.EmptyMatchTreatment.DISALLOW)
            | "Read"
            >> beam.Map(lambda file: read_any_model(file.path)).with_output_types(
                Models | Transducer
            )
        )


class LossCurve(beam.PTransform):
    """The losses of each epoch of the trainings that models came of, as rows."""

    def expand(self, pcoll: PCollection[Model | Transducer]) -> PCollection[EpochLoss]:
        """One row an epoch."""
        return pcoll | "Losses" >> beam.FlatMap(losses_of).with_output_types(EpochLoss)
