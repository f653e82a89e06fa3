"""A trained network with everything needed to use it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.packed_sequences import last_rows
from beam_rnn.data.columns import Columns
from beam_rnn.data.missing_values import carry_forward
from beam_rnn.data.output_parts import in_order
from beam_rnn.data.scaling import Scaler
from beam_rnn.models.padded_batches import run_equal_lengths, run_lengths
from beam_rnn.models.parameters import check_types, digest_of, frozen
from beam_rnn.nn.backprop import States, forward, initial_states
from beam_rnn.nn.embedding import embed
from beam_rnn.nn.kernels import Advance, kernel_name, kernel_of
from beam_rnn.nn.network import Network, Parameters


@dataclass(frozen=True, eq=False)
class Model:
    """A network, its parameters, and the meaning of its inputs and outputs.

        >>> network = Network("gru", hidden=4)
        >>> model = Model(network, network.initialize(inputs=2, outputs=1, seed=0))
        >>> model.forward(np.zeros((3, 5, 2), np.float32)).shape
        (3, 5, 1)

    Two models are equal when their digests are.

    Args:
        network: The network.
        parameters: The parameters by name; they are made read-only.
        columns: The input and target fields of a record; None for a network that was not trained
            on records.
        scaler: The scaling of inputs and targets; None for no scaling.
        training: Facts about the training, as JSON values; not part of the digest.
        kernel: The implementation: "numpy", "fused" (needs the extra `fast`), or "auto", which
            becomes "fused" if available; not part of the digest.

    Raises:
        ConfigurationError: The parameters, columns or scaler do not fit each other, or the
            kernel is not available.
    """

    network: Network
    parameters: Parameters
    columns: Columns | None = None
    scaler: Scaler | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    kernel: str = "auto"
    stepwise: ClassVar[bool] = True  # steps record by record

    def __post_init__(self) -> None:
        if self.network.residual is None:
            object.__setattr__(self, "network", replace(self.network, residual=False))
        inputs, outputs = self.network.inputs_and_outputs(self.parameters)
        check_types(self.parameters)
        each = self.network.horizons * len(self.network.parts)
        if self.columns is not None:
            self._check_columns(self.columns, inputs, outputs // each)
        if self.scaler is not None:
            scaling = self.scaler.default
            sizes = len(scaling.inputs_center), len(scaling.targets_center)
            if sizes != (inputs - self.carried, outputs // each):
                raise ConfigurationError(
                    f"the parameters are for {inputs} inputs and {outputs // each} targets, but "
                    f"the scaler is for {sizes[0]} and {sizes[1]}"
                )
        object.__setattr__(self, "parameters", frozen(self.parameters))
        object.__setattr__(self, "kernel", kernel_name(self.network, self.dtype, self.kernel))

    def _check_columns(self, columns: Columns, inputs: int, targets: int) -> None:
        sizes = columns.input_size, columns.target_size
        if sizes != (inputs, targets):
            raise ConfigurationError(
                f"the parameters are for {inputs} inputs and {targets} targets, but columns name "
                f"{sizes[0]} inputs and {sizes[1]} targets: {columns}"
            )
        fields = self.network.embedding_names
        rows = tuple(len(self.parameters[name]) for name in fields)
        if rows != columns.vocabulary_sizes or not columns.has_vocabularies:
            raise ConfigurationError(
                f"the parameters are for {rows} symbols, counting the unknown one, but columns "
                f"name {columns.vocabulary_sizes} for symbols={list(columns.symbols)}"
            )
        if len(columns.horizons) != self.network.horizons:
            raise ConfigurationError(
                f"the network has horizons={self.network.horizons}, but columns name "
                f"{len(columns.horizons)}: {columns}"
            )
        if self.network.residual:
            columns.check_residual()

    @cached_property
    def inputs(self) -> int:
        """The size of x."""
        return self.network.inputs_and_outputs(self.parameters)[0]

    @cached_property
    def outputs(self) -> int:
        """The size of y."""
        return self.network.inputs_and_outputs(self.parameters)[1]

    @cached_property
    def nbytes(self) -> int:
        """The number of bytes of the parameters."""
        return sum(value.nbytes for value in self.parameters.values())

    def of(self, key: str) -> "Model":  # noqa: ARG002  # those of `KeyedModels` have a key
        """Return the model of a key: this one."""
        return self

    def with_digest(self, digest: str) -> "Model | None":
        """Return this model if it has that digest, else None."""
        return self if self.digest == digest else None

    @property
    def carried(self) -> int:
        """The number of values that are carried forward if they are missing."""
        return 0 if self.columns is None else self.columns.carried_size

    @property
    def state_size(self) -> int:
        """The number of values in the hidden state, including carried ones."""
        return self.network.state_size + self.carried

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64: the type of the parameters and of every number computed."""
        return self.parameters["layers.0.W_x"].dtype

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that affects a prediction, in hexadecimal."""
        return digest_of(self.to_json(), self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: self.__dict__[field.name] for field in fields(self)}

    def to_json(self) -> dict[str, Any]:
        """Return everything but parameters and training facts, as JSON values."""
        return {
            "network": self.network.to_json(),
            "columns": self.columns and self.columns.to_json(),
            "scaler": self.scaler and self.scaler.to_json(),
        }

    @property
    def output_names(self) -> tuple[str, ...]:
        """The name of each number of y: a target or a class, its horizon and its part, as needed.

        >>> network = Network("gru", hidden=4, output="gaussian", horizons=2)
        >>> columns = Columns(key="id", inputs=["x"], horizon=(1, 24))
        >>> Model(network, network.initialize(1, 4, seed=0), columns).output_names
        ('x+1 mean', 'x+1 deviation', 'x+24 mean', 'x+24 deviation')
        """
        network, columns = self.network, self.columns
        each = network.horizons * len(network.parts)
        targets = (
            columns.target_names if columns else [f"y{i}" for i in range(self.outputs // each)]
        )
        horizons = columns.horizons if columns else range(1, network.horizons + 1)
        return tuple(
            target
            + (f"+{horizon}" if network.horizons > 1 else "")
            + (f" {part.name}" if len(network.parts) > 1 else "")
            for horizon in horizons
            for target in targets
            for part in network.parts
        )

    def scaled(self, key: str, inputs: Array) -> Array:
        """Return inputs (..., inputs) of a key, scaled: float64."""
        return inputs if self.scaler is None else self.scaler.of(key).scale_inputs(inputs)

    def restored(self, key: str, y: Array) -> Array:
        """Return outputs (..., outputs) in the units of the targets, quantiles sorted: float64."""
        y = y.astype(np.float64)
        if self.scaler is None:
            return in_order(y, self.network.parts)
        return self.scaler.of(key).restore_targets(y, self.network.parts)

    def astype(self, dtype: DTypeLike) -> "Model":
        """Return the same model with parameters of another type: float32 or float64."""
        parameters = {name: value.astype(dtype) for name, value in self.parameters.items()}
        return replace(self, parameters=parameters, kernel="auto")

    def with_kernel(self, kernel: str) -> "Model":
        """Return the same model with another kernel: "auto", "numpy" or "fused"."""
        return replace(self, kernel=kernel)

    def initial_state(self, batch: int = 1) -> Array:
        """Return the hidden state before a sequence, for `step`: (batch, state_size)."""
        return np.repeat(self._initial_state, batch, 0)

    @cached_property
    def _initial_state(self) -> Array:
        states = initial_states(self.network, self.parameters, 1)
        carried = np.zeros((1, self.carried), self.dtype)
        return np.concatenate([*(array for state in states for array in state), carried], 1)

    def step(self, state: Array, x: Array) -> tuple[Array, Array]:
        """Run one step of a batch of sequences, which may be at different steps.

        A row of the result has the same bits in every batch, and the same bits as the same
        step inside `forward`.

        Args:
            state: (batch, state_size): h, and c for the LSTM, layer by layer.
            x: (batch, inputs), scaled.

        Returns:
            The next state and y (batch, outputs), scaled.

        Raises:
            ConfigurationError: The network is bidirectional.
        """
        return self.advance(state, x, np.array([len(x)]), every=False)[::-1]

    def advance(
        self, state: Array, x: Array, running: Array, *, every: bool = True
    ) -> tuple[Array, Array]:
        """Run all steps of packed sequences, each as `step` does.

        Args:
            state: (batch, state_size), the state before the first step of each.
            x: (rows, inputs), scaled: the rows of all first steps, then those of all second
                steps, and so on, longest sequence first.
            running: (steps,), the number of sequences that run at each step; decreasing.
            every: Return the state after each step; if False, after each sequence's last one.

        Returns:
            y (rows, outputs), scaled, and the states: (rows, state_size), or (batch, state_size).

        Raises:
            ConfigurationError: The network is bidirectional.
        """
        if not self.carried:
            z, states = self._embed_and_advance(state, x, running, every)
            return self.network.output_of(z), states
        own = self.network.state_size
        x, carried = carry_forward(state[:, own:], x, running)
        z, states = self._embed_and_advance(np.ascontiguousarray(state[:, :own]), x, running, every)
        if not every:
            carried = carried[_last_of_each(running, len(state))]
        return self.network.output_of(z), np.concatenate([states, carried], 1)

    def _embed_and_advance(
        self, state: Array, x: Array, running: Array, every: bool
    ) -> tuple[Array, Array]:
        """Run packed sequences; without `carry`, each step starts from the initial state."""
        x = embed(self.network, self.parameters, x)
        if self.network.carry:
            return self._advance(state, x, running, every)
        own = self.network.state_size
        before = np.repeat(self._initial_state[:, :own], len(x), 0)
        z, states = self._advance(before, x, np.array([len(x)]), True)
        return z, states if every else states[_last_of_each(running, len(state))]

    @cached_property
    def _advance(self) -> Advance:
        if self.network.bidirectional:
            raise ConfigurationError(
                f"a bidirectional network needs whole sequences and cannot step: use forward, got "
                f"{self.network}"
            )
        return kernel_of(self.kernel).advance(self.network, self.parameters)

    def forward(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        initial_state: Array | None = None,
    ) -> Array:
        """Return the outputs of a batch of sequences.

        Args:
            x: (batch, time, inputs), scaled; in the parameters' type.
            lengths: (batch,), the length of each sequence; None if all fill `time`. Values after a
                sequence's end are ignored.
            initial_state: (batch, state_size); None for the model's initial state.

        Returns:
            y, scaled: (batch, time, outputs), zero after a sequence's end; or only of each
            sequence's last step, (batch, outputs), if the network has output_steps="last".

        Raises:
            ConfigurationError: A shape does not fit.
        """
        return self.run(x, lengths, initial_state)[0]

    def run(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        initial_state: Array | None = None,
    ) -> tuple[Array, Array]:
        """Return the result of `forward`, and the last states (batch, state_size)."""
        x = np.asarray(x, self.dtype)
        numbers = self.inputs - self.carried
        if x.ndim != 3 or x.shape[2] != numbers:
            raise ConfigurationError(
                f"x must have the shape (batch, time, {numbers}), got {x.shape}"
            )
        batch, time, _ = x.shape
        state = self._state_before(batch, initial_state)
        last_only = self.network.output_steps == "last"
        advance = partial(self.advance, every=False)
        if lengths is None and x.size > 0 and not self.network.bidirectional:
            return run_equal_lengths(advance, x, state, last_only=last_only)
        lengths = np.full(batch, time) if lengths is None else np.asarray(lengths)
        if lengths.shape != (batch,) or lengths.min(initial=0) < 0 or lengths.max(initial=0) > time:
            raise ConfigurationError(
                f"lengths must be {batch} whole numbers from 0 to {time}, got {lengths}"
            )
        if self.network.bidirectional:
            return self._run_both_directions(x, lengths, state)
        if not lengths.any():
            steps = () if last_only else (time,)
            return np.zeros((batch, *steps, self.outputs), self.dtype), state.copy()
        return run_lengths(advance, x, lengths, state, last_only=last_only)

    def _state_before(self, batch: int, initial_state: Array | None) -> Array:
        """Return the given initial state, checked, or the model's own."""
        if initial_state is None:
            return self.initial_state(batch)
        state = np.asarray(initial_state, self.dtype)
        if state.shape != (batch, self.state_size):
            raise ConfigurationError(
                f"initial_state must have the shape ({batch}, {self.state_size}), got {state.shape}"
            )
        return state

    def _run_both_directions(self, x: Array, lengths: Array, state: Array) -> tuple[Array, Array]:
        """Run a bidirectional network."""
        longest_first = np.argsort(-lengths, kind="stable")
        lengths, before = lengths[longest_first], state[longest_first]
        valid = np.arange(x.shape[1])[:, np.newaxis] < lengths
        x = np.where(valid[..., np.newaxis], x[longest_first].swapaxes(0, 1), 0)
        x, carried = self._carried_over(before[:, self.network.state_size :], x, lengths)
        z, last, _ = forward(
            self.network,
            self.parameters,
            x,
            self._unpack(before),
            lengths,
            kernel=kernel_of(self.kernel),
            keep=False,
        )
        if self.network.output_steps == "last":
            valid = (lengths > 0)[np.newaxis]
        y = np.where(valid[..., np.newaxis], self.network.output_of(z), 0).swapaxes(0, 1)
        outputs, after = np.empty_like(y), np.empty_like(state)
        outputs[longest_first] = y
        after[longest_first] = np.concatenate(
            [s for layer in (*last, (carried,)) for s in layer], 1
        )
        return (outputs[:, 0] if self.network.output_steps == "last" else outputs), after

    def _carried_over(self, before: Array, x: Array, lengths: Array) -> tuple[Array, Array]:
        """Return x without missing values, and the last carried values of each sequence."""
        time, batch, numbers = x.shape
        rows, each = carry_forward(before, x.reshape(-1, numbers), np.full(time, batch))
        last = np.concatenate([before[np.newaxis], each.reshape(time, *before.shape)])
        return rows.reshape(time, batch, self.inputs), last[lengths, np.arange(batch)]

    def _unpack(self, state: Array) -> States:
        """Split a state (batch, state_size) into the state of each layer."""
        return tuple(
            tuple(state[:, place] for place in layer) for layer in self.network.state_places
        )


def _last_of_each(running: Array, batch: int) -> Array:
    """Return the row of the last step of each packed sequence."""
    lengths = np.searchsorted(-running, -np.arange(batch), "left")
    return last_rows(lengths, running)
