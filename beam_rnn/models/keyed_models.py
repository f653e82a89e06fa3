"""Per-key models: one model for each key, and a fallback for other keys."""

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
from beam_rnn.models.on_tables import OnTables
from beam_rnn.nn.kernels import kernel_name
from beam_rnn.nn.network import Network

MADE_AT_MOST = 100_000
"""Maximum number of per-key models in memory; the least recently used is evicted first."""


@dataclass(frozen=True, eq=False)
class KeyedModels(OnTables):
    """A model for each key, all with the same network and columns.

        >>> network = Network("gru", hidden=4)
        >>> columns = Columns(key="id", inputs=["x"])
        >>> pump, fan, any_key = (
        ...     Model(network, network.initialize(1, 1, seed), columns) for seed in range(3))
        >>> models = KeyedModels.gathered({"pump": pump, "fan": fan}, fallback=any_key)
        >>> models.of("fan") == fan, models.of("never seen") == any_key
        (True, True)

    `gathered` makes it from models in memory. Two are equal when their digests are.

    Args:
        network: What was trained, for every key.
        columns: Which fields of a record are its key, inputs and targets.
        models: The models by key; those of a file are loaded on access.
        digests: The digest of each of them.
        fallback: The model of all other keys; None if there is none.
        reasons: Why a key of the training data has no model; not part of the digest.
        kernel: The kernel of all models: see `Model`.
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
        """Return models in memory as one `KeyedModels`.

        Args:
            models: The models by key.
            fallback: The model of all other keys; None for none.
            reasons: Why a key has no model.

        Raises:
            ConfigurationError: There is no model, one has no columns, or their networks or columns
                differ.
        """
        every = [*models.values(), *([] if fallback is None else [fallback])]
        if not every:
            raise ConfigurationError(
                f"KeyedModels needs a model of a key or a fallback, got models={dict(models)} and "
                "fallback=None"
            )
        first = every[0]
        if first.columns is None:
            raise ConfigurationError(
                f"the models of KeyedModels need columns, which name the key, got {first.columns} "
                f"for {first.network}"
            )
        for model in every:
            if (model.network, model.columns) != (first.network, first.columns):
                raise ConfigurationError(
                    "the models of KeyedModels must have the same network and columns, got "
                    f"{model.network} for {model.columns} and {first.network} for {first.columns}"
                )
        digests = {key: model.digest for key, model in models.items()}
        return KeyedModels(
            first.network, first.columns, dict(models), digests, fallback, dict(reasons or {})
        )

    def of(self, key: str) -> Model | None:
        """Return the model of a key, or the fallback; None if there is neither."""
        return self._cached(key) if key in self.models else self._fallback

    @cached_property
    def _cached(self) -> Any:
        return lru_cache(MADE_AT_MOST)(lambda key: self._with_shared_kernel(self.models[key]))

    @cached_property
    def _fallback(self) -> Model | None:
        return None if self.fallback is None else self._with_shared_kernel(self.fallback)

    def _with_shared_kernel(self, model: Model) -> Model:
        """Return a model with the shared kernel."""
        return model if model.kernel == self.kernel else model.with_kernel(self.kernel)

    def with_kernel(self, kernel: str) -> "KeyedModels":
        """Return the same models with another kernel: "auto", "numpy" or "fused"."""
        return replace(self, kernel=kernel)

    def with_digest(self, digest: str) -> Model | None:
        """Return the model with that digest; None if there is none."""
        if self._fallback is not None and self._fallback.digest == digest:
            return self._fallback
        key = self._keys_by_digest.get(digest)
        return None if key is None else self.of(key)

    @cached_property
    def _keys_by_digest(self) -> dict[str, str]:
        return {digest: key for key, digest in self.digests.items()}

    @cached_property
    def any(self) -> Model:
        """One of the models, for the attributes that all share: sizes, columns, dtype."""
        if self._fallback is not None:
            return self._fallback
        return self._with_shared_kernel(self.models[min(self.models)])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that affects a prediction, in hexadecimal.

        It covers network, columns and the digest of the fallback as JSON, then each key and the
        digest of its model, sorted by key.
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
        """The number of values in the hidden state of a key."""
        return self.any.state_size

    @property
    def output_names(self) -> tuple[str, ...]:
        """The name of each number of y: see `Model.output_names`."""
        return self.any.output_names

    @property
    def nbytes(self) -> int:
        """The number of bytes of the parameters of all models."""
        return self.any.nbytes * (len(self.models) + (self.fallback is not None))


Models: TypeAlias = Model | KeyedModels
"""Models that step record by record. Both have `of(key)`."""
