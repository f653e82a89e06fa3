"""Which fields of a record mean what."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from beam_rnn.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which fields of a record mean what, and how far ahead the targets lie.

        >>> Columns(key="sensor", time="at", inputs=["temperature"]).targets
        ('temperature',)

    Args:
        key: The field that says whose record it is: text, a whole number, or UTF-8 bytes.
        time: The field with the event time: a Beam Timestamp, a datetime (UTC if it has no
            zone), an ISO 8601 text, or seconds since 1970; None for the element's own Beam
            timestamp.
        inputs: The fields that the network sees: numbers.
        targets: The fields that it predicts: numbers; the inputs themselves if left out.
        sequence: A field with a whole number that orders records of the same time; None if
            there is none.
        horizon: How many records ahead the targets lie: 1 for the next one, 0 for targets
            in the record itself.

    Raises:
        ConfigurationError: A name that is no text, no inputs, a horizon below 0.
    """

    key: str
    time: str | None = None
    inputs: Sequence[str]
    targets: Sequence[str] = ()
    sequence: str | None = None
    horizon: int = 1

    def __post_init__(self) -> None:
        for name in ("inputs", "targets"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(v, str) and v for v in value):
                raise ConfigurationError(f"{name} must be a list of names, got {value!r}")
            if len(set(value)) != len(value):
                raise ConfigurationError(f"{name} names a column twice: {value!r}")
            object.__setattr__(self, name, tuple(value))
        if not self.inputs:
            raise ConfigurationError("inputs must name at least one column, got none")
        if not self.targets:
            object.__setattr__(self, "targets", self.inputs)
        for name in ("key", "time", "sequence"):
            value = getattr(self, name)
            optional = name != "key" and value is None
            if not optional and not (isinstance(value, str) and value):
                raise ConfigurationError(f"{name} must be the name of a column, got {value!r}")
        if not isinstance(self.horizon, int) or self.horizon < 0:
            raise ConfigurationError(
                f"horizon must be a whole number of at least 0, got {self.horizon!r}"
            )

    def check_residual(self) -> None:
        """That a network with residual=True can add each target's last value.

        Raises:
            ConfigurationError: The targets are not the first inputs.
        """
        if self.inputs[: len(self.targets)] != self.targets:
            raise ConfigurationError(
                "residual=True needs the targets to be the first inputs, in the same order, got "
                f"inputs={list(self.inputs)} and targets={list(self.targets)}"
            )

    def to_json(self) -> dict[str, Any]:
        """The columns as JSON values; `Columns(**values)` is the inverse.

        What is at its default is left out, as in `Network.to_json`.
        """
        always = {"key": self.key, "inputs": list(self.inputs), "targets": list(self.targets)}
        return always | {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in always and getattr(self, field.name) != field.default
        }
