"""Sequences into a model."""

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.batches import Sequence
from beam_rnn.errors import ConfigurationError
from beam_rnn.fit import Training
from beam_rnn.model import Model
from beam_rnn.network import Network
from beam_rnn.objective import loss_name
from beam_rnn.training import TrainModel
from beam_rnn.transforms.arguments import check_type
from beam_rnn.transforms.per_key import TrainEachKey


class Train(beam.PTransform):
    """Learns a model from sequences, by back-propagation through time.

    All sequences go to one worker, which runs every epoch: exact mini-batch BPTT, for a
    history that fits one worker. How far it is goes to the log of `beam_rnn.training`.

    With per_key=True each key gets a model of its own, trained on its sequences alone on whatever
    worker its group lands, with the bits of `beam_rnn.fit.fit`. The result is one `KeyedModels`.
    A key that cannot be learned from has no model: it is counted, and the log and
    `KeyedModels.reasons` say why.

    Args:
        network: What to train.
        training: How to train; `Training()` if left out.
        per_key: Train a model for each key; the result is `KeyedModels`.
        fallback: With per_key, train one on all keys too, for those that have none of their own.

    Raises:
        ConfigurationError: An argument of another type, or a loss that does not fit the
            network's output function.
    """

    def __init__(
        self,
        network: Network,
        training: Training | None = None,
        *,
        per_key: bool = False,
        fallback: bool = True,
    ):
        super().__init__()
        training = training or Training()
        check_type("network", network, Network)
        check_type("training", training, Training)
        loss_name(network, training.loss)  # that they go together
        if not fallback and not per_key:
            raise ConfigurationError(
                "fallback=False says that keys without a model of their own have none: it goes "
                "with per_key=True"
            )
        self._fn = TrainModel(network, training)
        self._each_key: TrainEachKey | None = None
        if per_key:
            shared = Train(network, training) if fallback else None
            self._each_key = TrainEachKey(network, training, shared)

    # No return annotation: Beam takes one for all, and there are two types.
    def expand(self, pcoll: PCollection[Sequence]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Bring all sequences to one worker and fit; or each key's to its own."""
        if self._each_key is not None:
            return pcoll | "EachKey" >> self._each_key
        gather = beam.CombineGlobally(beam.combiners.ToListCombineFn())
        if not isinstance(pcoll.windowing.windowfn, GlobalWindows):
            gather = gather.without_defaults()  # an empty window has no model
        return pcoll | "Gather" >> gather | "Fit" >> beam.ParDo(self._fn).with_output_types(Model)
