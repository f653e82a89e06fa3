"""What is held back from training, and the loss on it."""

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf

import numpy as np

from beam_rnn.backprop import forward, initial_states
from beam_rnn.batches import Example, Sequence, batch_of
from beam_rnn.bptt import judged
from beam_rnn.kernels import NUMPY, Kernel
from beam_rnn.losses import Loss
from beam_rnn.network import Network, Parameters


def hold_back(
    sequences: Iterable[Sequence], fraction: float, network: Network
) -> tuple[list[Sequence], list[Sequence]]:
    """The last sequences, or the last steps of each key, held back from training.

    Where the network has an output on every step, that is the last part of each key's steps, in
    time. Training ends before the first target that is held back. A sequence that reaches into
    the part that is held back is validated on as a whole, with weight 0 on the steps before it:
    the hidden state is then what it is in a stream.

    Where it has one on the last step alone, whole sequences are held back: those that end last.
    A sequence of the same key that reaches into one of them is not trained on.

    Args:
        sequences: The sequences.
        fraction: The share to hold back.
        network: Says where the outputs are.

    Returns:
        The sequences to train on, and those to validate on.
    """
    split = _sequences_that_end_last if network.output_steps == "last" else _last_steps
    return split(list(sequences), fraction)


def _sequences_that_end_last(
    sequences: list[Sequence], fraction: float
) -> tuple[list[Sequence], list[Sequence]]:
    by_end = sorted(sequences, key=lambda sequence: sequence.until)
    first = round(len(by_end) * (1 - fraction))
    held_back = by_end[first:]
    begins: dict[str, int] = {}
    for sequence in held_back:
        begin = int(sequence.times[0])
        begins[sequence.key] = min(begin, begins.get(sequence.key, begin))
    return [s for s in by_end[:first] if s.until < begins.get(s.key, s.until + 1)], held_back


def _last_steps(
    sequences: list[Sequence], fraction: float
) -> tuple[list[Sequence], list[Sequence]]:
    times: dict[str, list[np.ndarray]] = {}
    for sequence in sequences:
        times.setdefault(sequence.key, []).append(sequence.times)
    split = {}
    for key, each in times.items():
        distinct = np.unique(np.concatenate(each))
        split[key] = distinct[min(int(len(distinct) * (1 - fraction)), len(distinct) - 1)]
    training, held_back = [], []
    for sequence in sequences:
        furthest = sequence.columns.horizons[-1]
        beyond = np.full(min(furthest, len(sequence.times)), sequence.until)
        targets_at = np.concatenate([sequence.times[furthest:], beyond])
        learned = int(np.searchsorted(targets_at, split[sequence.key]))
        known = int(np.searchsorted(sequence.times, split[sequence.key]))
        if learned > 0:
            training.append(_first_steps(sequence, learned, int(targets_at[learned - 1])))
        if known < len(sequence.times):
            held_back.append(_without_weight_before(sequence, known))
    return training, held_back


def _first_steps(sequence: Sequence, steps: int, until: int) -> Sequence:
    return sequence._replace(
        times=sequence.times[:steps],
        inputs=sequence.inputs[:steps],
        targets=sequence.targets[:steps],
        until=until,
        weights=None if sequence.weights is None else sequence.weights[:steps],
    )


def _without_weight_before(sequence: Sequence, step: int) -> Sequence:
    shape = len(sequence.times), len(sequence.columns.horizons)
    weights = np.ones(shape) if sequence.weights is None else sequence.weights.copy()
    weights[:step] = 0
    return sequence._replace(weights=weights)


def validation_loss(
    network: Network,
    parameters: Parameters,
    examples: SequenceOf[Example],
    loss: Loss,
    batch_size: int,
    kernel: Kernel = NUMPY,
) -> float:
    """The mean loss over all steps that have one, without learning from them.

    Args:
        network: The network.
        parameters: Its parameters.
        examples: The sequences.
        loss: (z, targets, weights) -> (loss, gradient).
        batch_size: How many sequences stand side by side.
        kernel: What computes the layers.
    """
    total = weight = 0.0
    by_length = sorted(examples, key=lambda example: -len(example.x))
    for start in range(0, len(by_length), batch_size):
        batch = batch_of(by_length[start : start + batch_size], parameters["layers.0.W_x"].dtype)
        states = initial_states(network, parameters, len(batch.lengths))
        z, _, _ = forward(
            network, parameters, batch.x, states, batch.lengths, kernel=kernel, keep=False
        )
        counts = (np.arange(len(batch.x))[:, np.newaxis] < batch.lengths).astype(float)
        targets, weights = judged(network, batch, 0, len(batch.x), counts)
        total += loss(z, targets, weights)[0] * weights.sum()
        weight += weights.sum()
    return total / weight if weight else float("nan")
