"""Test, then train: each record of a key is predicted from, then learned from (Dawid 1984).

`Prequential` holds what does not change, and maps one state of a key, a `Learned`, to the next.
A step is learned from when the record that completes its targets is there: BPTT(k) over the last
k complete steps, from the hidden state that was carried to the first of them.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from beam_rnn.backprop import States, backward, forward, initial_states
from beam_rnn.bptt import Learner, updated
from beam_rnn.cells import Array
from beam_rnn.errors import ConfigurationError
from beam_rnn.gating import NO_EVIDENCE, following
from beam_rnn.kernels import Advance, Kernel, kernel_of
from beam_rnn.learned import Learned, Recent
from beam_rnn.learning import Learning
from beam_rnn.losses import Loss
from beam_rnn.model import Model
from beam_rnn.network import Parameters
from beam_rnn.objective import objective
from beam_rnn.rescaling import Rescaling, Scaled


class Prequential:
    """Predicts and learns, record by record; each method maps a state to another.

        >>> from beam_rnn.learning import Bptt, Columns, Network, Untrained
        >>> columns = Columns(key="id", inputs=["x"])
        >>> base = Untrained(Network("gru", hidden=4, residual=True), columns).model()
        >>> prequential = Prequential(base, Learning(bptt=Bptt(steps=2)))
        >>> state = prequential.begin()
        >>> for x in (1.0, 2.0, 4.0, 3.0, 5.0, 4.0):
        ...     state = prequential.take(state, "a", np.array([x, x]))
        >>> state.steps, state.updates
        (6, 2)

    Args:
        base: The model to begin with.
        learning: How it learns.

    Raises:
        ConfigurationError: They do not go together.
    """

    def __init__(self, base: Model, learning: Learning):
        assert base.columns is not None, "a model without columns is refused when it is loaded"
        self.base = base
        self.learning = learning
        self.columns = base.columns
        self.network = base.network
        self.horizons = np.array(base.columns.horizons)
        self.steps = learning.bptt.steps or 0
        self.stride = learning.bptt.stride or self.steps
        self._last_advance: tuple[Parameters, Advance] | None = None
        self.rescaling = Rescaling(base, learning.scaler)
        self._targets = self.columns.target_size
        running = self.rescaling.running
        self._values_kept = (running.difference if running else None) or 0
        if self.network.bidirectional or self.network.output_steps == "last":
            raise ConfigurationError(
                "a stream is learned from step by step: it needs a network with "
                f"bidirectional=False and output_steps='every', got {self.network}"
            )
        _ = self.loss  # that it fits the output function

    @cached_property
    def loss(self) -> Loss:
        """Of z, targets and weights."""
        return objective(self.network, self.learning.loss)

    @cached_property
    def kernel(self) -> Kernel:
        """What computes: that of the base model."""
        return kernel_of(self.base.kernel)

    @cached_property
    def _advance_base(self) -> Advance:
        return self.kernel.advance(self.network, self.base.parameters)

    def _advance_of(self, parameters: Parameters) -> Advance:
        """What steps with these parameters; that of the last ones is kept."""
        if self._last_advance is None or self._last_advance[0] is not parameters:
            self._last_advance = parameters, self.kernel.advance(self.network, parameters)
        return self._last_advance[1]

    def begin(self) -> Learned:
        """The state of a key before its first record."""
        parameters = dict(self.base.parameters)
        learner = Learner(parameters, self.learning.optimizer.init(parameters))
        empty = Learned(
            learner=learner,
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
        """The state before the first step of another sequence: what was learned stays."""
        initial = self._initial(state.learner.parameters)
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
                np.zeros((0, self._targets + (self.columns.weight is not None)), double),
            ),
        )

    def _initial(self, parameters: Parameters) -> Array:
        return _packed(initial_states(self.network, parameters, 1))

    def take(self, state: Learned, key: str, numbers: Array) -> Learned | None:
        """The state after a record: predicted from, then learned from.

        Args:
            state: The state before it.
            key: Whose it is.
            numbers: Its inputs, targets and weight, as recorded.

        Returns:
            None if the step leaves the range of numbers, also from the base model.
        """
        stepped = self.step(state, key, numbers)
        return None if stepped is None else self._trimmed(self.learn(self._judged(stepped)))

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def step(self, state: Learned, key: str, numbers: Array) -> Learned | None:
        """The state after the prediction, before anything is learned; None if out of range."""
        scaled = self.rescaling.scaled(state.statistics, state.recent.values, key, numbers)
        if not all(np.isfinite(part).all() for part in scaled):
            return None
        after = self._stepped(state, scaled)
        if after is None and state.updates:
            after = self._stepped(self.restarted(state), scaled)
        return after

    def _stepped(self, state: Learned, scaled: Scaled) -> Learned | None:
        x = scaled.x[np.newaxis]
        advance = self._advance_of(state.learner.parameters)
        z, h = advance(state.h[np.newaxis], x, _ONE, False)
        base_z, base_h = np.zeros((1, 0), np.float32), state.base_h[np.newaxis]
        said, made_by = z, state.updates
        if self.learning.gate is not None:
            base_z, base_h = self._advance_base(base_h, x, _ONE, False)
            if not state.evidence.trusted:
                said, made_by = base_z, 0
        outputs = self.rescaling.restored(self.network.output_of(said)[0], scaled)
        if not all(np.isfinite(part).all() for part in (z, h, base_z, base_h, outputs)):
            return None
        rows = (x, scaled.offset, scaled.scale, np.array(scaled.known), z, base_z, scaled.value)
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
        """How many steps have all their targets."""
        return max(state.steps - int(self.horizons[-1]), 0)

    def _targets_of(self, state: Learned, start: int, stop: int) -> tuple[Array, Array]:
        """Scaled targets (steps, horizons * targets) and weights (steps, horizons)."""
        recent, targets = state.recent, self._targets
        at = np.arange(start, stop)
        rows = at - (state.steps - len(recent.x))
        places = at[:, np.newaxis] + self.horizons - (state.steps - len(recent.values))
        values = recent.values[places]
        unscaled = values[..., :targets].reshape(len(at), -1)
        weights = np.repeat(recent.known[rows, np.newaxis], len(self.horizons), 1)
        if self.columns.weight is not None:
            weights = weights * values[..., targets]
        return (unscaled - recent.offset[rows]) / recent.scale[rows], weights

    @np.errstate(over="ignore", invalid="ignore")
    def _judged(self, state: Learned) -> Learned:
        """The state with the evidence of the step that is complete now."""
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
        evidence = following(gate, state.evidence, of_base - of_learned, int(self.horizons[-1]))
        judged = state._replace(evidence=evidence)
        if evidence.worse == gate.patience or not np.isfinite(evidence.squares):
            return self.restarted(judged)
        return judged

    def restarted(self, state: Learned) -> Learned:
        """The state with the base model in place of what was learned; the sequence goes on."""
        gated = self.learning.gate is not None
        h = state.base_h if gated else self._initial(self.base.parameters)
        z = state.recent.base_z if gated else state.recent.z
        return state._replace(
            learner=self.begin().learner,
            restarts=state.restarts + 1,
            evidence=NO_EVIDENCE,
            start=state.steps,
            carry=h,
            h=h,
            recent=state.recent._replace(z=z),
        )

    def learn(self, state: Learned) -> Learned:
        """The state after the update, if there is a window whose targets are complete."""
        stop = state.start + self.steps
        return state if self._complete(state) < stop else self._learned(state, stop)

    def finish(self, state: Learned) -> Learned:
        """The state after an update from what is left of the sequence: the shorter last window."""
        stop, bptt = self._complete(state), self.learning.bptt
        reached = state.start + self.steps - self.stride if state.start else 0
        if stop <= reached or (bptt.loss == "last" and state.start):
            return state
        return self._learned(state, stop)

    @np.errstate(over="ignore", invalid="ignore")
    def _learned(self, state: Learned, stop: int) -> Learned:
        """The state after learning from the steps up to `stop`; moved on to the next window."""
        start, learning, network = state.start, self.learning, self.network
        at = start - (state.steps - len(state.recent.x))
        x = state.recent.x[at : at + stop - start, np.newaxis]
        targets, weights = self._targets_of(state, start, stop)
        if learning.bptt.loss == "last":
            weights[:-1] = 0
        states = self._states_before(state)
        z, last, trace = forward(
            network, state.learner.parameters, x, states, _length(x), kernel=self.kernel
        )
        learner, updates, refused = state.learner, state.updates, state.refused
        if weights.any():
            scaled = targets[:, np.newaxis].astype(np.float32)
            value, d_z = self.loss(z, scaled, weights[:, np.newaxis])
            gradients = backward(network, learner.parameters, trace, d_z, kernel=self.kernel)
            following = updated(
                network,
                learner,
                gradients,
                begins=start == 0,
                optimizer=learning.optimizer,
                clip_norm=learning.clip_norm,
                clip_value=learning.clip_value,
            )
            if np.isfinite(value) and _finite(following):
                learner, updates = _as_stored(following, learner), updates + 1
            else:
                refused += 1
        carry = _packed(last)
        if learning.bptt.loss == "last" or self.stride < len(x):
            begin = self._initial(learner.parameters) if start == 0 else state.carry
            advance = self._advance_of(learner.parameters)
            passed = x[: self.stride, 0]
            carry = advance(begin[np.newaxis], passed, np.ones(len(passed), np.int64), False)[1][0]
        return state._replace(
            learner=learner,
            updates=updates,
            refused=refused,
            start=start + self.stride,
            carry=carry if np.isfinite(carry).all() else self._initial(learner.parameters),
        )

    def _states_before(self, state: Learned) -> States:
        """The hidden state before the window, as the layers take it."""
        if state.start == 0:
            return initial_states(self.network, state.learner.parameters, 1)
        carry = state.carry[np.newaxis]
        return tuple(
            tuple(carry[:, place] for place in layer) for layer in self.network.state_places
        )

    def _trimmed(self, state: Learned) -> Learned:
        """The state without the steps that nothing is learned from any more."""
        rows = max(state.steps - state.start, int(self.horizons[-1]))
        records = max(rows, self._values_kept)
        recent = Recent._make(part[max(len(part) - rows, 0) :] for part in state.recent)
        values = state.recent.values
        kept = values[max(len(values) - records, 0) :]
        return state._replace(recent=recent._replace(values=kept))

    def checkpoint(self, state: Learned) -> Model:
        """What was learned, as a model of its own, with the scaling as it is now.

        Raises:
            ConfigurationError: The statistics are of logarithms or differences, which a weights
                file cannot hold.
        """
        return Model(
            self.network,
            state.learner.parameters,
            self.columns,
            self.rescaling.scaler(state.statistics),
            {"learned_from": self.base.digest, "updates": state.updates},
            self.base.kernel,
        )


_NONE = np.zeros(0, np.float32)
_ONE = np.ones(1, np.int64)


def _length(x: Array) -> Array:
    return np.array([len(x)])


def _packed(states: States) -> Array:
    """The state of each layer as one row (state_size,)."""
    return np.concatenate([part for layer in states for part in layer], 1)[0]


def _finite(tree: Any) -> bool:
    return bool(np.isfinite(np.concatenate(list(_flat(tree)))).all())


def _flat(tree: Any) -> Iterator[Array]:
    """Every number of a tree of tuples and dicts."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple):
        for part in tree:
            yield from _flat(part)
    else:
        yield np.ravel(tree)


def _as_stored(tree: Any, like: Any) -> Any:
    """A tree with the types and the memory order that it has when it is read from its bytes."""
    if isinstance(like, dict):
        return {name: _as_stored(tree[name], value) for name, value in like.items()}
    if isinstance(like, tuple):
        return type(like)(*map(_as_stored, tree, like))
    if isinstance(like, np.ndarray):
        return np.ascontiguousarray(tree, like.dtype)
    return type(like)(tree)
