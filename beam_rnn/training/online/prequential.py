"""Test, then train: each record of a key gives a prediction, then is learned from (Dawid 1984).

`Prequential` holds what does not change, and maps a state of a key, a `Learned`, to the next.
A step is learned from when the record that completes its targets has arrived: BPTT(k) over the last
k complete steps, from the hidden state that was carried to the first of them.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.models.model import Model
from beam_rnn.nn.backprop import States, initial_states
from beam_rnn.nn.kernels import Advance, kernel_of
from beam_rnn.nn.losses import objective
from beam_rnn.nn.network import Parameters
from beam_rnn.training.online.gate import NO_EVIDENCE, following
from beam_rnn.training.online.learned_format import Learned, Recent
from beam_rnn.training.online.rescaling import Rescaling, Scaled
from beam_rnn.training.online.settings import Learning
from beam_rnn.training.online.updates import ALL, Updates, Window, all_finite


class _Using(NamedTuple):
    """Parameters, ready to step."""

    vector: Array
    parameters: Parameters
    advance: Advance


class Prequential:
    """Predicts and learns, record by record; each method maps a state to another.

        >>> from beam_rnn.training.online.settings import Bptt, Columns, Network, Untrained
        >>> columns = Columns(key="id", inputs=["x"])
        >>> base = Untrained(Network("gru", hidden=4, residual=True), columns).model()
        >>> prequential = Prequential(base, Learning(bptt=Bptt(steps=2)))
        >>> state = prequential.begin()
        >>> for x in (1.0, 2.0, 4.0, 3.0, 5.0, 4.0):
        ...     state = prequential.take(state, "a", np.array([x, x]))
        >>> state.steps, state.updates
        (6, 2)

    Args:
        base: The model to start from.
        learning: The settings.

    Raises:
        ConfigurationError: They do not fit each other.
    """

    def __init__(self, base: Model, learning: Learning):
        assert base.columns is not None, "a model without columns is refused when it is loaded"
        self.base = base
        self.learning = learning
        self.columns = base.columns
        self.columns.check_numbers_alone("what is learned in the stream")
        self.network = base.network
        self.horizons = np.array(base.columns.horizons)
        self.steps = learning.bptt.steps or 0
        self.stride = learning.bptt.stride or self.steps
        self._last: _Using | None = None
        self.rescaling = Rescaling(base, learning.scaler)
        self._targets = self.columns.target_size
        self._each_horizon = np.ones(len(self.horizons))
        running = self.rescaling.running
        self._values_kept = (running.difference if running else None) or 0
        network = self.network
        if network.bidirectional or network.output_steps == "last" or not network.carry:
            raise ConfigurationError(
                "online learning goes step by step: it needs a network with "
                f"bidirectional=False, output_steps='every' and carry=True, got {network}"
            )
        self.loss = objective(self.network, learning.loss)
        self.kernel = kernel_of(base.kernel)
        self._updates = Updates(self.network, base.parameters, learning, self.loss, self.kernel)

    @cached_property
    def _advance_base(self) -> Advance:
        return self.kernel.advance(self.network, self.base.parameters)

    def _using(self, state: Learned) -> _Using:
        """Return the parameters of a state, ready to step; the last ones are cached."""
        vector = state.learner.parameters[ALL]
        if self._last is None or self._last.vector is not vector:
            parameters = self._updates.parameters(state.learner)
            self._last = _Using(vector, parameters, self.kernel.advance(self.network, parameters))
        return self._last

    def parameters(self, state: Learned) -> Parameters:
        """Return the learned parameters by name."""
        return self._using(state).parameters

    def begin(self) -> Learned:
        """Return the state of a key before its first record."""
        empty = Learned(
            learner=self._updates.learner(self.base.parameters),
            updates=0,
            refused=0,
            restarts=0,
            statistics=self.rescaling.nothing_known(),
            evidence=NO_EVIDENCE,
            steps=0,
            start=0,
            carry=_NONE,
            h=_NONE,
            base_h=_NONE,
            recent=Recent(*[_NONE] * len(Recent._fields)),
            outputs=np.zeros(self.base.outputs),
            made_by=0,
        )
        return self.new_sequence(empty)

    def new_sequence(self, state: Learned) -> Learned:
        """Return the state before the first step of the next sequence: the parameters stay."""
        initial = self._initial_of(state)
        gated = self.learning.gate is not None
        outputs = self.base.outputs
        targets = len(self.horizons) * self._targets
        single, double = np.float32, np.float64
        return state._replace(
            steps=0,
            start=0,
            carry=initial,
            h=initial,
            base_h=self._initial(self.base.parameters) if gated else _NONE,
            recent=Recent(
                np.zeros((0, self.base.inputs), single),
                np.zeros((0, targets), double),
                np.zeros((0, targets), double),
                np.zeros(0, double),
                np.zeros((0, outputs), single),
                np.zeros((0, outputs * gated), single),
                np.zeros(0, double),
                np.zeros((0, self._targets + (self.columns.weight is not None)), double),
            ),
        )

    def _initial_of(self, state: Learned) -> Array:
        return self._initial(self.parameters(state))

    def _initial(self, parameters: Parameters) -> Array:
        return _packed(initial_states(self.network, parameters, 1))

    def take(self, state: Learned, key: str, numbers: Array) -> Learned | None:
        """Return the state after a record: first predict, then learn.

        Args:
            state: The state before it.
            key: The record's key.
            numbers: Its inputs, targets and weight, as recorded.

        Returns:
            None if the step overflows, with the base model too.
        """
        stepped = self.step(state, key, numbers)
        return None if stepped is None else self._trimmed(self.learn(self._judged(stepped)))

    @default_arithmetic()
    def step(self, state: Learned, key: str, numbers: Array) -> Learned | None:
        """Return the state after the prediction, before learning; None if the step overflows."""
        scaled = self.rescaling.scaled(state.statistics, state.recent.values, key, numbers)
        if not all_finite(*scaled.statistics, *scaled[1:4], scaled.value):
            return None
        after = self._stepped(state, scaled)
        if after is None and state.updates:
            after = self._stepped(self.restarted(state), scaled)
        return after

    def _stepped(self, state: Learned, scaled: Scaled) -> Learned | None:
        x = scaled.x[np.newaxis]
        z, h = self._using(state).advance(state.h[np.newaxis], x, _ONE, False)
        base_z, base_h = np.zeros((1, 0), np.float32), state.base_h[np.newaxis]
        said, made_by = z, state.updates
        if self.learning.gate is not None:
            base_z, base_h = self._advance_base(base_h, x, _ONE, False)
            if not state.evidence.trusts:
                said, made_by = base_z, 0
        outputs = self.rescaling.restored(self.network.output_of(said)[0], scaled)
        if not all_finite(z[0], h[0], base_z[0], base_h[0], outputs):
            return None
        known, chosen = np.array(scaled.known), np.array(float(state.evidence.chooses))
        rows = (x, scaled.offset, scaled.scale, known, z, base_z, chosen, scaled.value)
        recent = Recent._make(
            np.concatenate([before, row.reshape(1, *before.shape[1:])])
            for before, row in zip(state.recent, rows, strict=True)
        )
        return state._replace(
            statistics=scaled.statistics,
            steps=state.steps + 1,
            h=h[0],
            base_h=base_h[0],
            recent=recent,
            outputs=outputs,
            made_by=made_by,
        )

    def _complete(self, state: Learned) -> int:
        """Return the number of steps that have all their targets."""
        return max(state.steps - int(self.horizons[-1]), 0)

    def _targets_of(self, state: Learned, start: int, stop: int) -> tuple[Array, Array]:
        """Return scaled targets (steps, horizons * targets) and weights (steps, horizons)."""
        recent, targets = state.recent, self._targets
        first = state.steps - len(recent.x)
        rows = slice(start - first, stop - first)
        at = np.arange(start, stop) - (state.steps - len(recent.values))
        values = recent.values[at[:, np.newaxis] + self.horizons]
        unscaled = values[..., :targets].reshape(len(at), -1)
        weights = recent.known[rows, np.newaxis] * self._each_horizon
        if self.columns.weight is not None:
            weights = weights * values[..., targets]
        return (unscaled - recent.offset[rows]) / recent.scale[rows], weights

    @default_arithmetic()
    def _judged(self, state: Learned) -> Learned:
        """Return the state with the evidence of the step that is complete now."""
        gate, at = self.learning.gate, self._complete(state) - 1
        if gate is None or at < 0:
            return state
        targets, weights = self._targets_of(state, at, at + 1)
        if not weights.any():
            return state
        row = at - (state.steps - len(state.recent.x))
        of_learned, of_base = (
            float(self.loss(z[row : row + 1].astype(np.float64), targets, weights)[0])
            for z in (state.recent.z, state.recent.base_z)
        )
        if not np.isfinite(of_base):
            return state
        chosen, horizon = state.recent.chosen[row], int(self.horizons[-1])
        evidence = following(gate, state.evidence, of_base - of_learned, chosen, horizon)
        judged = state._replace(evidence=evidence)
        if evidence.worse == gate.patience or not np.isfinite(evidence.learned.squares):
            return self.restarted(judged)
        return judged

    def restarted(self, state: Learned) -> Learned:
        """Return the state with the base model as the learned one; the sequence continues.

        The evidence for the gate's choices is kept.
        """
        _, choice, _, proven = state.evidence
        evidence = NO_EVIDENCE
        if np.isfinite(choice.squares):
            evidence = NO_EVIDENCE._replace(choice=choice, proven=proven)
        gated = self.learning.gate is not None
        h = state.base_h if gated else self._initial(self.base.parameters)
        z = state.recent.base_z if gated else state.recent.z
        return state._replace(
            learner=self.begin().learner,
            restarts=state.restarts + 1,
            evidence=evidence,
            start=state.steps,
            carry=h,
            h=h,
            recent=state.recent._replace(z=z),
        )

    def learn(self, state: Learned) -> Learned:
        """Return the state after an update, if there is a window with complete targets."""
        stop = state.start + self.steps
        return state if self._complete(state) < stop else self._learned(state, stop)

    def finish(self, state: Learned) -> Learned:
        """Return the state after an update from the rest of the sequence, a shorter window."""
        stop, bptt = self._complete(state), self.learning.bptt
        reached = state.start + self.steps - self.stride if state.start else 0
        if stop <= reached or (bptt.loss == "last" and state.start):
            return state
        return self._learned(state, stop)

    @default_arithmetic()
    def _learned(self, state: Learned, stop: int) -> Learned:
        """Return the state after learning from the steps up to `stop`, at the next window."""
        start = state.start
        at = start - (state.steps - len(state.recent.x))
        x = state.recent.x[at : at + stop - start]
        targets, weights = self._targets_of(state, start, stop)
        of_last = self.learning.bptt.loss == "last"
        if of_last:
            weights[:-1] = 0
        window = Window(x, targets, weights, start == 0)
        parameters = self.parameters(state)
        states = self._states_before(state, parameters)
        learner, last = self._updates.after(state.learner, parameters, window, states)
        refused = learner is None
        after = state._replace(
            learner=learner or state.learner,
            updates=state.updates + (not refused and learner is not state.learner),
            refused=state.refused + refused,
            start=start + self.stride,
        )
        if of_last or self.stride < len(x):
            carry = self._passed(after, x[: self.stride], begins=start == 0)
        else:
            carry = _packed(last)
        return after._replace(carry=carry if all_finite(carry) else self._initial_of(after))

    def _passed(self, state: Learned, x: Array, *, begins: bool) -> Array:
        """Return the hidden state after the first steps of a window."""
        begin = self._initial_of(state) if begins else state.carry
        advance = self._using(state).advance
        return advance(begin[np.newaxis], x, np.ones(len(x), np.int64), False)[1][0]

    def _states_before(self, state: Learned, parameters: Parameters) -> States:
        """Return the hidden state before the window, as the layers take it."""
        if state.start == 0:
            return initial_states(self.network, parameters, 1)
        carry = state.carry[np.newaxis]
        return tuple(
            tuple(carry[:, place] for place in layer) for layer in self.network.state_places
        )

    def _trimmed(self, state: Learned) -> Learned:
        """Return the state without the steps that are no longer needed for learning."""
        rows = max(state.steps - state.start, int(self.horizons[-1]))
        records = max(rows, self._values_kept)
        recent = Recent._make(part[max(len(part) - rows, 0) :] for part in state.recent)
        values = state.recent.values
        kept = values[max(len(values) - records, 0) :]
        return state._replace(recent=recent._replace(values=kept))

    def checkpoint(self, state: Learned) -> Model:
        """Return the learned parameters and the present scaling as a `Model`.

        Raises:
            ConfigurationError: The statistics are of logarithms or differences, which a weights
                file cannot hold.
        """
        return Model(
            self.network,
            self.parameters(state),
            self.columns,
            self.rescaling.scaler(state.statistics),
            {"learned_from": self.base.digest, "updates": state.updates},
            self.base.kernel,
        )


_NONE = np.zeros(0, np.float32)
_ONE = np.ones(1, np.int64)


def _packed(states: States) -> Array:
    """Return the states of all layers as one row (state_size,)."""
    return np.concatenate([part for layer in states for part in layer], 1)[0]
