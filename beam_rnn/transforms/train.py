"""Sequences into a model."""

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.batches import Sequence
from beam_rnn.fit import Training
from beam_rnn.model import Model
from beam_rnn.network import Network
from beam_rnn.objective import loss_name
from beam_rnn.training import TrainModel
from beam_rnn.transforms.arguments import check_type


class Train(beam.PTransform):
    """Learns a model from sequences, by back-propagation through time.

    All sequences go to one worker, which runs every epoch: exact mini-batch BPTT, for a
    history that fits one worker. How far it is goes to the log of `beam_rnn.training`.

    Args:
        network: What to train.
        training: How to train; `Training()` if left out.

    Raises:
        ConfigurationError: An argument of another type, or a loss that does not fit the
            network's output function.
    """

    def __init__(self, network: Network, training: Training | None = None):
        super().__init__()
        training = training or Training()
        check_type("network", network, Network)
        check_type("training", training, Training)
        loss_name(network, training.loss)  # that they go together
        self._fn = TrainModel(network, training)

    def expand(self, pcoll: PCollection[Sequence]) -> PCollection[Model]:
        """Bring all sequences to one worker and fit."""
        gather = beam.CombineGlobally(beam.combiners.ToListCombineFn())
        if not isinstance(pcoll.windowing.windowfn, GlobalWindows):
            gather = gather.without_defaults()  # an empty window has no model
        return pcoll | "Gather" >> gather | "Fit" >> beam.ParDo(self._fn).with_output_types(Model)
