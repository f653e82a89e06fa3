"""Test, then train: each record of a key is predicted from, then learned from (Dawid 1984).

`Prequential` holds what does not change, and maps one state of a key, a `Learned`, to the next.
A step is learned from when the record that completes its targets is there: BPTT(k) over the last
k complete steps, from the hidden state that was carried to the first of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.backprop import States, backward, forward, initial_states
from beam_rnn.bptt import Bptt, Learner, updated
from beam_rnn.cells import Array
from beam_rnn.checks import check_choice, check_number, check_whole
from beam_rnn.columns import Columns
from beam_rnn.errors import ConfigurationError
from beam_rnn.kernels import Kernel, kernel_of
from beam_rnn.losses import Loss
from beam_rnn.model import Model
from beam_rnn.network import Network, Parameters
from beam_rnn.objective import LOSS_NAMES, objective
from beam_rnn.optimizers import Adam, Optimizer
from beam_rnn.outputs import OUTPUTS
from beam_rnn.running import Running, Statistics, center_and_scale, no_statistics, observed
from beam_rnn.scaler import Scaler, Scaling


@dataclass(frozen=True)
class Gate:
    """Predict with what was learned only while it is better than the base model.

    The losses of both, of the same steps, are followed as exponentially decayed means.

    Args:
        decay: How much the loss so far counts when the next one comes.
        patience: Begin anew from the base model when what was learned has been worse for so many
            steps in a row; None for never.

    Raises:
        ConfigurationError: A number outside its range.
    """

    decay: float = 0.95
    patience: int | None = 200

    def __post_init__(self) -> None:
        check_number("decay", self.decay, below=1)
        if self.patience is not None:
            check_whole("patience", self.patience)


@dataclass(frozen=True)
class Learning:
    """How a stream is learned from.

        >>> Learning(bptt=Bptt(steps=24, stride=1, loss="last")).bptt.steps
        24

    Args:
        bptt: Which steps the gradient passes through; it needs `steps`, since a stream has no
            end. What is left of a window when its sequence ends is learned from then.
        loss: As in `Training`.
        optimizer: How a gradient changes the parameters.
        clip_norm: The greatest global norm of a gradient; None for no limit.
        clip_value: The greatest size of each number of a gradient; None for no limit.
        scaler: Scale by running statistics, in place of the base model's scaler; None for that
            scaler, and for `Running()` where the base model has none.
        gate: When to trust what was learned; None for always.

    Raises:
        ConfigurationError: A value outside its range.
    """

    bptt: Bptt = field(default_factory=lambda: Bptt(steps=32))
    loss: str | None = None
    optimizer: Optimizer = field(default_factory=Adam)
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    scaler: Running | None = None
    gate: Gate | None = field(default_factory=Gate)

    def __post_init__(self) -> None:
        for name, kind in (("bptt", Bptt), ("scaler", Running), ("gate", Gate)):
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "bptt"):
                raise ConfigurationError(f"{name} must be a {kind.__name__}, got {value!r}")
        if self.bptt.steps is None:
            raise ConfigurationError(
                "Bptt(steps=None) goes back to the begin of the sequence, and a stream has no "
                "end: give a number of steps, such as Bptt(steps=32)"
            )
        if self.loss is not None:
            check_choice("loss", self.loss, LOSS_NAMES)
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, (int, float)) and limit > 0):
                raise ConfigurationError(f"{name} must be above 0 or None, got {limit!r}")
        if not all(callable(getattr(self.optimizer, name, None)) for name in ("init", "update")):
            raise ConfigurationError(
                f"optimizer must be one such as Adam(1e-3), got {self.optimizer!r}"
            )


@dataclass(frozen=True)
class Untrained:
    """A base model that has learned nothing yet.

    Its head is zero: of scaled numbers, its forecast is the mean that is known, or, with
    `Network(residual=True)`, the last value.

        >>> Untrained(Network("gru", hidden=4), Columns(key="id", inputs=["x"])).model().outputs
        1

    Args:
        network: The network; its horizons are taken from the columns.
        columns: Which fields of a record mean what.
        seed: The same seed gives the same parameters.

    Raises:
        ConfigurationError: Network and columns do not go together.
    """

    network: Network
    columns: Columns
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("network", Network), ("columns", Columns)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigurationError(
                    f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}"
                )
        check_whole("seed", self.seed, least=0)
        self.model()

    def model(self, kernel: str = "auto") -> Model:
        """The model: the same one each time."""
        values = {name: getattr(self.network, name) for name in self.network.__dataclass_fields__}
        network = Network(**values | {"horizons": len(self.columns.horizons)})
        outputs = network.horizons * self.columns.target_size * len(network.parts)
        parameters = network.initialize(len(self.columns.inputs), outputs, self.seed)
        parameters |= {
            name: np.zeros_like(value)
            for name, value in parameters.items()
            if name.startswith("head.")
        }
        return Model(network, parameters, self.columns, kernel=kernel)


class Judged(NamedTuple):
    """The losses that a gate follows."""

    learned: float  # the decayed mean of what was learned
    base: float  # of the base model
    worse: int  # for how many steps in a row the first has been the greater


class Recent(NamedTuple):
    """The last steps of a sequence: those from which is still to be learned."""

    x: Array  # (steps, inputs) float32, scaled
    offset: Array  # (steps, horizons * targets) float64: a target is offset + scale * z
    scale: Array  # (steps, horizons * targets) float64
    known: Array  # (steps,) float64: 1 if there was a deviation to scale by, else 0
    z: Array  # (steps, outputs) float32, what was learned says
    base_z: Array  # (steps, outputs) float32, the base model says; (steps, 0) without a gate
    values: Array  # (records, targets) float64, their targets, logarithms if asked for; weights


class Learned(NamedTuple):
    """The state of a key.

    Attributes:
        learner: The parameters, and the optimiser's state.
        updates: How many updates the key has had.
        refused: How many updates were refused, since they left the range of numbers.
        restarts: How often it began anew from the base model.
        statistics: What is known of inputs and targets; of no columns if the base model scales.
        judged: The losses that the gate follows.
        steps: How many steps the sequence has had.
        start: The first step of the next window to learn from.
        carry: (state_size,) float32, the hidden state before that step.
        h: (state_size,) float32, the hidden state after the last step.
        base_h: The same of the base model; (0,) without a gate.
        recent: The last steps.
        outputs: (outputs,) float64, of the last step, in the targets' units.
        made_by: The updates of the parameters that made them; 0 for the base model.
    """

    learner: Learner
    updates: int
    refused: int
    restarts: int
    statistics: Statistics
    judged: Judged
    steps: int
    start: int
    carry: Array
    h: Array
    base_h: Array
    recent: Recent
    outputs: Array
    made_by: int


def name_of(digest: str, updates: int) -> str:
    """What a prediction calls its model: the base's digest, and how many updates of it.

    >>> name_of("3f", 0), name_of("3f", 12)
    ('3f', '3f+12')
    """
    return f"{digest}+{updates}" if updates else digest


class _Scaled(NamedTuple):
    """A record as the network sees it, and how its outputs are restored."""

    statistics: Statistics
    x: Array
    offset: Array
    scale: Array
    known: float
    value: Array


class Prequential:
    """Predicts and learns, record by record; each method maps a state to another.

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
        self.running = learning.scaler
        if self.running is None and base.scaler is None:
            self.running = Running()
        self._inputs = len(self.columns.inputs)
        self._targets = self.columns.target_size
        self._scales_targets = OUTPUTS[self.network.output].scaled
        self._check()
        self._as_input = [
            (self.columns.inputs.index(name), i)
            for i, name in enumerate(self.columns.targets)
            if name in self.columns.inputs and self._scales_targets
        ]

    def _check(self) -> None:
        if self.network.bidirectional or self.network.output_steps == "last":
            raise ConfigurationError(
                "a stream is learned from step by step: it needs a network with "
                f"bidirectional=False and output_steps='every', got {self.network}"
            )
        _ = self.loss  # that it fits the output function
        running = self.running
        if running is None or running.plain:
            return
        if not self._scales_targets:
            raise ConfigurationError(
                f"{running} is for targets that are numbers, got a network with "
                f"output={self.network.output!r}"
            )
        if running.log and "deviation" in self.network.parts:
            raise ConfigurationError(
                "Running(log=True) has no deviation in the unit of the targets: take "
                "output='quantiles' instead of 'gaussian'"
            )
        if running.difference and self.horizons[0] == 0:
            raise ConfigurationError(
                "Running(difference=...) predicts from what is known before: it needs horizons "
                "of at least 1, got 0"
            )

    @cached_property
    def loss(self) -> Loss:
        """Of z, targets and weights."""
        return objective(self.network, self.learning.loss)

    @cached_property
    def kernel(self) -> Kernel:
        """What computes: that of the base model."""
        return kernel_of(self.base.kernel)

    @cached_property
    def _advance_base(self) -> Any:
        return self.kernel.advance(self.network, self.base.parameters)

    def begin(self) -> Learned:
        """The state of a key before its first record."""
        parameters = dict(self.base.parameters)
        learner = Learner(parameters, self.learning.optimizer.init(parameters))
        columns = 0 if self.running is None else self._inputs + self._targets
        empty = Learned(
            learner=learner,
            updates=0,
            refused=0,
            restarts=0,
            statistics=no_statistics(columns),
            judged=Judged(0.0, 0.0, 0),
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
                np.zeros((0, self._inputs), single),
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
        scaled = self._scaled(state, key, numbers)
        if not all(np.isfinite(part).all() for part in scaled):
            return None
        after = self._stepped(state, scaled)
        if after is None and state.updates:
            after = self._stepped(self.restarted(state), scaled)
        return after

    def _stepped(self, state: Learned, scaled: _Scaled) -> Learned | None:
        x = scaled.x[np.newaxis]
        advance = self.kernel.advance(self.network, state.learner.parameters)
        z, h = advance(state.h[np.newaxis], x, _ONE, False)
        base_z, base_h = np.zeros((1, 0), np.float32), state.base_h[np.newaxis]
        said, made_by = z, state.updates
        if self.learning.gate is not None:
            base_z, base_h = self._advance_base(base_h, x, _ONE, False)
            if not state.judged.learned < state.judged.base:
                said, made_by = base_z, 0
        outputs = self._restored(self.network.output_of(said)[0], scaled)
        if not all(np.isfinite(part).all() for part in (z, h, base_z, base_h, outputs)):
            return None
        rows = (x, scaled.offset, scaled.scale, np.array(scaled.known), z, base_z, scaled.value)
        recent = Recent(
            *(
                np.concatenate([before, row.reshape(1, *before.shape[1:])])
                for before, row in zip(state.recent, rows, strict=True)
            )
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

    def _scaled(self, state: Learned, key: str, numbers: Array) -> _Scaled:
        """The record scaled by what is known with it, its outputs by what is known for them."""
        n = self._inputs
        value = numbers[n:].copy()
        horizons, targets = len(self.horizons), self._targets
        if self.running is None:
            scaler = self.base.scaler
            assert scaler is not None, "without one the statistics are running"
            scaling = scaler.of(key)
            x = scaling.scale_inputs(numbers[:n])
            center, scale, known = scaling.targets_center, scaling.targets_scale, 1.0
            statistics, offset = state.statistics, np.tile(center, horizons)
        else:
            if self.running.log:
                value[:targets] = np.log(value[:targets])
            now = np.concatenate([numbers[:n], self._change(state, value[:targets])])
            for of_input, of_target in self._as_input:
                now[of_input] = now[n + of_target]
            statistics = observed(state.statistics, now, self.running.decay)
            center, scale, varies = center_and_scale(statistics)
            x = np.nan_to_num((now[:n] - center[:n]) / scale[:n], nan=0.0, posinf=np.inf)
            if self.horizons[0] == 0:  # the record's own targets are not known yet
                center, scale, varies = center_and_scale(state.statistics)
            center, scale, known = center[n:], scale[n:], float(varies[n:].all())
            offset = np.tile(center, horizons)
            if not self._scales_targets:
                known = 1.0
            elif self.running.difference is not None:
                offset, there = self._from_before(state, value[:targets], center)
                known *= there
        if not self._scales_targets:
            offset, scale = np.zeros(horizons * targets), np.ones(targets)
        return _Scaled(
            statistics, x.astype(np.float32), offset, np.tile(scale, horizons), known, value
        )

    def _change(self, state: Learned, value: Array) -> Array:
        """The targets of a record as the statistics follow them; NaN where none is known."""
        assert self.running is not None, "of running statistics"
        back, values = self.running.difference, state.recent.values
        if back is None:
            return value
        if len(values) < back:
            return np.full(len(value), np.nan)
        return value - values[-back, : len(value)]

    def _from_before(self, state: Learned, value: Array, center: Array) -> tuple[Array, float]:
        """What each target is a change from, with the mean change; whether all is known."""
        assert self.running is not None, "of running statistics"
        values = np.concatenate([state.recent.values[:, : len(value)], value[np.newaxis]])
        offsets, there = [], 1.0
        for horizon in self.horizons.tolist():
            back = self.running.steps_back(horizon)
            at = len(values) - 1 + horizon - back
            if at < 0:
                offsets.append(value)
                there = 0.0
            else:
                offsets.append(values[at] + center * (back // (self.running.difference or 1)))
        return np.concatenate(offsets), there

    def _restored(self, y: Array, scaled: _Scaled) -> Array:
        """Outputs in the targets' own units."""
        parts = self.network.parts
        centered = np.array([part != "deviation" for part in parts])
        by_part = y.astype(np.float64).reshape(-1, len(parts))
        restored = by_part * scaled.scale[:, np.newaxis] + scaled.offset[:, np.newaxis] * centered
        if self.running is not None and self.running.log:
            restored = np.exp(restored)
        return restored.reshape(-1)

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
        """The state with the losses of the step that is complete now."""
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
        before = state.judged
        learned = gate.decay * before.learned + (1 - gate.decay) * of_learned
        base = gate.decay * before.base + (1 - gate.decay) * of_base
        worse = 0 if learned <= base else before.worse + 1
        judged = state._replace(judged=Judged(learned, base, worse))
        if not np.isfinite(of_learned) or worse == gate.patience:
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
            judged=Judged(0.0, 0.0, 0),
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
        states = self._states_at(state, state.learner)
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
        if learning.bptt.loss == "last" or self.stride < len(x):
            states = self._states_at(state, learner)
            passed = x[: self.stride]
            _, last, _ = forward(
                network,
                learner.parameters,
                passed,
                states,
                _length(passed),
                kernel=self.kernel,
                keep=False,
            )
        carry = _packed(last)
        return state._replace(
            learner=learner,
            updates=updates,
            refused=refused,
            start=start + self.stride,
            carry=carry if np.isfinite(carry).all() else self._initial(learner.parameters),
        )

    def _states_at(self, state: Learned, learner: Learner) -> States:
        """The hidden state before the window, as the layers take it."""
        if state.start == 0:
            return initial_states(self.network, learner.parameters, 1)
        carry = state.carry[np.newaxis]
        return tuple(
            tuple(carry[:, place] for place in layer) for layer in self.network.state_places
        )

    def _trimmed(self, state: Learned) -> Learned:
        """The state without the steps that nothing is learned from any more."""
        rows = max(state.steps - state.start, int(self.horizons[-1]))
        *of_steps, values = state.recent
        records = max(rows, (self.running and self.running.difference) or 0)
        recent = Recent(*(part[max(len(part) - rows, 0) :] for part in of_steps), values)
        kept = values[max(len(values) - records, 0) :]
        return state._replace(recent=recent._replace(values=kept))

    def checkpoint(self, state: Learned) -> Model:
        """What was learned, as a model of its own, with the scaling as it is now.

        Raises:
            ConfigurationError: The statistics are of logarithms or differences, which a weights
                file cannot hold.
        """
        self.check_checkpoints()
        scaler = self.base.scaler
        if self.running is not None:
            center, scale, _ = center_and_scale(state.statistics)
            n = self._inputs
            targets = center[n:], scale[n:]
            if not self._scales_targets:
                targets = np.zeros(self._targets), np.ones(self._targets)
            scaler = Scaler(Scaling(center[:n], scale[:n], *targets), {})
        return Model(
            self.network,
            state.learner.parameters,
            self.columns,
            scaler,
            {"learned_from": self.base.digest, "updates": state.updates},
            self.base.kernel,
        )

    def check_checkpoints(self) -> None:
        """That what is learned can be a model of its own.

        Raises:
            ConfigurationError: It cannot.
        """
        if self.running is not None and not self.running.plain:
            raise ConfigurationError(
                f"checkpoint_every needs a scaler that a weights file can hold, got {self.running}"
            )


_NONE = np.zeros(0, np.float32)
_ONE = np.ones(1, np.int64)


def _length(x: Array) -> Array:
    return np.array([len(x)])


def _packed(states: States) -> Array:
    """The state of each layer as one row (state_size,)."""
    return np.concatenate([part for layer in states for part in layer], 1)[0]


def _finite(tree: Any) -> bool:
    if isinstance(tree, dict):
        return all(map(_finite, tree.values()))
    return all(map(_finite, tree)) if isinstance(tree, tuple) else bool(np.isfinite(tree).all())


def _as_stored(tree: Any, like: Any) -> Any:
    """A tree with the types and the memory order that it has when it is read from its bytes."""
    if isinstance(like, dict):
        return {name: _as_stored(tree[name], value) for name, value in like.items()}
    if isinstance(like, tuple):
        return type(like)(*map(_as_stored, tree, like))
    if isinstance(like, np.ndarray):
        return np.ascontiguousarray(tree, like.dtype)
    return type(like)(tree)


def settings_of(learning: Learning, running: Running | None) -> Sequence[Any]:
    """What stored state depends on: with other settings it cannot be read, or means another thing.

    The rates of an optimiser, the loss and the clipping may change while a stream goes on.
    """
    bptt = learning.bptt
    gated = learning.gate is not None
    kind = type(learning.optimizer).__name__
    return (bptt.steps, bptt.stride, bptt.loss, kind, gated, running and vars(running))
