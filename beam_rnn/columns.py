"""Which fields of a record mean what."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from beam_rnn.checks import check_choice, check_whole
from beam_rnn.cycles import CYCLES, cycle_names
from beam_rnn.errors import ConfigurationError

MISSING = ("refuse", "drop", "carry")
"""What becomes of a record in which a field is missing."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which fields of a record mean what, and how far ahead the targets lie.

        >>> Columns(key="sensor", time="at", inputs=["temperature"]).targets
        ('temperature',)
        >>> Columns(key="sensor", inputs=["temperature"], horizon=range(1, 4)).horizons
        (1, 2, 3)

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
            in the record itself; or several, rising, to predict all of them at every step.
        classes: What the one target can be, where it is a class: texts or whole numbers. The
            network then gives one output a class.
        weight: A field that says how much the record counts as a target in training: a
            number of at least 0; None if all count alike.
        start: A field that is true on the record with which a sequence begins, whatever came
            before it; None if there is none.
        end: A field that is true on the last record of a sequence; None if there is none.
        static: Further fields that the network sees: numbers that say what a key is, such as a
            size or a place, the same in all its records. They are scaled as those of all keys.
        calendar: What the network sees of the event time: names in `beam_rnn.cycles.CYCLES`,
            "hour" for the place in the hour, "day", "week", "year". Each is two inputs.
        missing: What becomes of a record where a field that the network sees is None or NaN.
            "refuse": it cannot be used. "drop": the same, but `Sequences` goes on without it.
            "carry": the key's last value stands for it, 0 after scaling where there was none yet,
            and for each field the network sees whether it was there. A target that is missing then
            counts for nothing in training.

    Raises:
        ConfigurationError: A name that is no text, no inputs, a horizon below 0, classes that
            cannot be told apart, a cycle that does not exist.
    """

    key: str
    time: str | None = None
    inputs: Sequence[str]
    targets: Sequence[str] = ()
    sequence: str | None = None
    horizon: int | Sequence[int] = 1
    classes: Sequence[str | int] = ()
    weight: str | None = None
    start: str | None = None
    end: str | None = None
    static: Sequence[str] = ()
    calendar: Sequence[str] = ()
    missing: str = "refuse"

    def __post_init__(self) -> None:
        self._check_names()
        if not self.targets:
            object.__setattr__(self, "targets", self.inputs)
        horizons = (
            self.horizon if isinstance(self.horizon, (list, tuple, range)) else [self.horizon]
        )
        for horizon in horizons:
            check_whole("horizon", horizon, least=0)
        if not horizons or sorted(set(horizons)) != list(horizons):
            raise ConfigurationError(f"horizons must rise, got {self.horizon!r}")
        several = tuple(horizons) if len(horizons) > 1 else horizons[0]
        object.__setattr__(self, "horizon", several)
        self._check_classes()

    def _check_names(self) -> None:
        for name in ("inputs", "targets", "static", "calendar"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(v, str) and v for v in value):
                raise ConfigurationError(f"{name} must be a list of names, got {value!r}")
            if len(set(value)) != len(value):
                raise ConfigurationError(f"{name} names a column twice: {value!r}")
            object.__setattr__(self, name, tuple(value))
        if not self.inputs:
            raise ConfigurationError("inputs must name at least one column, got none")
        check_choice("missing", self.missing, MISSING)
        for cycle in self.calendar:
            check_choice("calendar", cycle, CYCLES)
        twice = set(self.inputs) & set(self.static)
        if twice:
            raise ConfigurationError(f"inputs and static both name {', '.join(sorted(twice))}")
        for name in ("key", "time", "sequence", "weight", "start", "end"):
            value = getattr(self, name)
            optional = name != "key" and value is None
            if not optional and not (isinstance(value, str) and value):
                raise ConfigurationError(f"{name} must be the name of a column, got {value!r}")

    def _check_classes(self) -> None:
        if isinstance(self.classes, str):
            raise ConfigurationError(f"classes must be a list, got {self.classes!r}")
        object.__setattr__(self, "classes", tuple(self.classes))
        if not self.classes:
            return
        for label in self.classes:
            if not isinstance(label, (str, int)) or isinstance(label, bool):
                raise ConfigurationError(f"a class must be text or a whole number, got {label!r}")
        if (
            len({str(label) for label in self.classes}) != len(self.classes)
            or len(self.classes) < 2
        ):
            raise ConfigurationError(
                f"classes must be at least two, all different, got {list(self.classes)}"
            )
        if len(self.targets) != 1:
            raise ConfigurationError(
                f"classes are those of one target, got targets={list(self.targets)}"
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a record that the network sees."""
        return (*self.inputs, *self.static)

    @property
    def number_names(self) -> tuple[str, ...]:
        """What the numbers of a record are called: the inputs, what is static, the calendar."""
        return (*self.fields, *cycle_names(self.calendar))

    @property
    def number_size(self) -> int:
        """How many numbers of a record the network sees."""
        return len(self.fields) + 2 * len(self.calendar)

    @property
    def carried_size(self) -> int:
        """How many of them are carried forward where they are missing: the first."""
        return len(self.fields) if self.missing == "carry" else 0

    @property
    def input_names(self) -> tuple[str, ...]:
        """What the numbers of x are called: those of a record, and whether each is there."""
        there = self.fields[: self.carried_size]
        return (*self.number_names, *(f"{name} there" for name in there))

    @property
    def input_size(self) -> int:
        """How many numbers x has."""
        return self.number_size + self.carried_size

    @property
    def horizons(self) -> tuple[int, ...]:
        """How many records ahead the targets lie, each of them."""
        return self.horizon if isinstance(self.horizon, tuple) else (self.horizon,)

    @property
    def target_names(self) -> tuple[str, ...]:
        """What the numbers of a target are called: the targets, or the classes of the one."""
        return tuple(str(label) for label in self.classes) or tuple(self.targets)

    @property
    def target_size(self) -> int:
        """How many numbers the targets of one horizon are."""
        return len(self.classes) or len(self.targets)

    @property
    def fingerprint(self) -> bytes:
        """Eight bytes that differ where a record would be read otherwise for a prediction."""
        read: tuple[Any, ...]
        read = (self.key, self.time, self.inputs, self.sequence, self.start, self.end)
        if self.static or self.calendar:
            read = (*read, self.static, self.calendar)
        if self.carried_size:
            read = (*read, self.missing)
        return hashlib.sha256(json.dumps(read).encode()).digest()[:8]

    def check_nothing_missing(self, what: str) -> None:
        """That every value is there.

        Raises:
            ConfigurationError: One may be missing, which `what` cannot do with.
        """
        if self.missing == "carry":
            raise ConfigurationError(
                f"missing={self.missing!r} is for Train and Predict: {what} needs every value, "
                "take columns with missing='refuse'"
            )

    def check_residual(self) -> None:
        """That a network with residual=True can add each target's last value.

        Raises:
            ConfigurationError: The targets are not the first inputs.
        """
        if self.classes or self.inputs[: len(self.targets)] != self.targets:
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
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if field.name not in always and (value := getattr(self, field.name)) != field.default
        }
