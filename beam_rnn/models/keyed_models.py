"""Many models as one: each key has its own, and a key that training never saw the fallback."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, TypeAlias

import numpy as np

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.models.model import Model
from beam_rnn.nn.kernels import kernel_name
from beam_rnn.nn.network import Network

MADE_AT_MOST = 100_000
"""So many models of keys are held in memory; the one that was used longest ago goes first."""


@dataclass(frozen=True, eq=False)
class KeyedModels:
    """A model for each key, all of one network and one kind of record.

        >>> network = Network("gru", hidden=4)
        >>> columns = Columns(key="id", inputs=["x"])
        >>> pump, fan, any_key = (
        ...     Model(network, network.initialize(1, 1, seed), columns) for seed in range(3))
        >>> models = KeyedModels.gathered({"pump": pump, "fan": fan}, fallback=any_key)
        >>> models.of("fan") == fan, models.of("never seen") == any_key
        (True, True)

    `gathered` makes it of models that are there. Two are equal when their digests are.

    Args:
        network: What was trained, for every key.
        columns: Which fields of a record are its key, inputs and targets.
        models: The models by key; those of a file are made when they are asked for.
        digests: The digest of each of them.
        fallback: The model of every other key; None if there is none.
        reasons: Why a key that training saw has no model of its own; not part of the digest.
        kernel: What computes, for every key: see `Model`.
    """

    network: Network
    columns: Columns
    models: Mapping[str, Model]
    digests: Mapping[str, str]
    fallback: Model | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    kernel: str = "auto"
    stepwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", kernel_name(self.network, np.float32, self.kernel))

    @staticmethod
    def gathered(
        models: Mapping[str, Model],
        fallback: Model | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> "KeyedModels":
        """Models that are there, as one.

        Args:
            models: The models by key.
            fallback: The model of every other key; None for none.
            reasons: Why a key has no model of its own.

        Raises:
            ConfigurationError: There is no model, one has no columns, or they differ in their
                network or columns.
        """
        every = [*models.values(), *([] if fallback is None else [fallback])]
        if not every:
            raise ConfigurationError("KeyedModels needs a model: of a key, or a fallback")
        first = every[0]
        if first.columns is None:
            raise ConfigurationError("the models of KeyedModels need columns, which name the key")
        for model in every:
            if (model.network, model.columns) != (first.network, first.columns):
                raise ConfigurationError(
                    "the models of KeyedModels have one network and the same columns, got "
                    f"{model.network} for {model.columns} and {first.network} for {first.columns}"
                )
        digests = {key: model.digest for key, model in models.items()}
        return KeyedModels(
            first.network, first.columns, dict(models), digests, fallback, dict(reasons or {})
        )

    def of(self, key: str) -> Model | None:
        """The model of a key; None if it has none, and there is no fallback."""
        return self._made(key) if key in self.models else self._fallback

    @cached_property
    def _made(self) -> Any:
        return lru_cache(MADE_AT_MOST)(lambda key: self._computed(self.models[key]))

    @cached_property
    def _fallback(self) -> Model | None:
        return None if self.fallback is None else self._computed(self.fallback)

    def _computed(self, model: Model) -> Model:
        """A model, computed by the kernel of all."""
        return model if model.kernel == self.kernel else model.with_kernel(self.kernel)

    def with_kernel(self, kernel: str) -> "KeyedModels":
        """The same models, computed by another kernel: "auto", "numpy" or "fused"."""
        return replace(self, kernel=kernel)

    def with_digest(self, digest: str) -> Model | None:
        """The model with that digest; None if there is none."""
        if self._fallback is not None and self._fallback.digest == digest:
            return self._fallback
        key = self._keys_by_digest.get(digest)
        return None if key is None else self.of(key)

    @cached_property
    def _keys_by_digest(self) -> dict[str, str]:
        return {digest: key for key, digest in self.digests.items()}

    @cached_property
    def any(self) -> Model:
        """One of the models: in all that `Model` says but its numbers, the others are like it."""
        if self._fallback is not None:
            return self._fallback
        return self._computed(self.models[min(self.models)])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides a prediction, in hexadecimal.

        Network, columns and the digest of the fallback as JSON, then each key and the digest of
        its model, by key.
        """
        shared = {
            "network": self.network.to_json(),
            "columns": self.columns.to_json(),
            "fallback": self.fallback and self.fallback.digest,
        }
        sha = hashlib.sha256(json.dumps(shared, sort_keys=True).encode())
        for key in sorted(self.digests):
            sha.update(f"\0{key}\0{self.digests[key]}".encode())
        return sha.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyedModels) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: self.__dict__[field.name] for field in fields(self)}

    @property
    def inputs(self) -> int:
        """The size of x."""
        return self.any.inputs

    @property
    def outputs(self) -> int:
        """The size of y."""
        return self.any.outputs

    @property
    def state_size(self) -> int:
        """How many numbers the hidden state of a key has."""
        return self.any.state_size

    @property
    def output_names(self) -> tuple[str, ...]:
        """What each number of y is: see `Model.output_names`."""
        return self.any.output_names

    @property
    def nbytes(self) -> int:
        """How many bytes the parameters of all models have."""
        return self.any.nbytes * (len(self.models) + (self.fallback is not None))


Models: TypeAlias = Model | KeyedModels
"""What a weights file holds. Both say `of(key)`."""
