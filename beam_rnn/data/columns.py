"""The columns of a record: which field is the key, the time, an input or a target."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta, timezone
from itertools import combinations
from typing import Any

from beam_rnn.core.checks import check_choice, check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.calendar import CYCLES, cycle_names
from beam_rnn.data.event_times import MAX_MICROS, check_time_format, micros_of
from beam_rnn.data.vocabulary import checked_vocabulary

MISSING = ("refuse", "drop", "carry")
"""Treatments of a record with a missing field."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The meaning of the fields of a record, and how far ahead the targets lie.

        >>> Columns(key="sensor", time="at", inputs=["temperature"]).targets
        ('temperature',)
        >>> Columns(key="sensor", inputs=["temperature"], horizon=range(1, 4)).horizons
        (1, 2, 3)

    Args:
        key: The field that identifies the series of a record: text, a whole number, or UTF-8 bytes.
        time: The field with the event time: a Beam Timestamp, a datetime (UTC if it has no
            zone), a text in ISO 8601, a month ("1949-01"), a quarter ("1990Q1"), or seconds since
            1970; in the years 1 to 9999. None: the Beam timestamp of the element.
        inputs: The input fields of the network: numbers.
        targets: The fields to predict: numbers; by default the inputs.
        symbols: Further input fields, categorical ones such as words, characters or names: texts or
            whole numbers. The network learns a vector for each symbol: `Network(embedding=...)`.
        vocabularies: The known symbols of each such field; for a field without a vocabulary
            `Train` collects the symbols that it sees. Any other symbol counts as unknown.
        vectors: The sizes of the inputs, targets and static fields that are lists of numbers:
            {"notes": 88}.
        time_format: The format of times that are texts or numbers: a pattern for
            `datetime.strptime`, such as "%Y%m%d%H", or the unit of a number: "seconds",
            "milliseconds", "microseconds" or "nanoseconds" since 1970, or "excel" for the days of
            Excel. It does not apply to timestamps and datetimes.
        latest: The latest valid time; a record with a later one cannot be used. None: the end of
            the year 9999.
        sequence: An optional field with a whole number that orders records of the same time.
            In files without a column "row", "row" is the position of a record in its file.
        horizon: How many records ahead the targets lie: 1 for the next record, 0 for targets
            in the record itself; or several, increasing, to predict all of them at every step.
        classes: The values of the target if it is a class: texts or whole numbers. The network then
            has one output per class.
        weight: A field with the weight of the record as a target in training: a number of at least
            0; None if all weights are equal.
        start: An optional field that is true on the first record of a sequence, which then starts
            from the initial state.
        end: An optional field that is true on the last record of a sequence.
        static: Further input fields: numbers that describe a key, such as a size or a position, the
            same in all its records. They are scaled by the statistics of all keys.
        calendar: Inputs from the event time: names in `beam_rnn.data.calendar.CYCLES`, "hour" for
            the position in the hour, "day", "week", "year". Each is two inputs.
        missing: The treatment of a record in which an input field is None or NaN.
            "refuse": the record cannot be used. "drop": the same, but `Sequences` skips it.
            "carry": the last value of the key is used, 0 after scaling if there is none yet, and a
            mask of the present fields is added to the inputs. A missing target then has no weight
            in training.

    Raises:
        ConfigurationError: A name is not text, there are neither inputs nor symbols, a horizon is
            below 0, two classes are equal, a cycle does not exist, or a time format cannot be
            read.
    """

    key: str
    time: str | None = None
    inputs: Sequence[str] = ()
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
    symbols: Sequence[str] = ()
    vocabularies: Mapping[str, Sequence[str | int]] | Sequence[tuple[str, Sequence[str]]] = field(
        default=(), repr=False
    )
    vectors: Mapping[str, int] | Sequence[tuple[str, int]] = ()
    time_format: str | None = None
    latest: str | float | date | None = None

    def __post_init__(self) -> None:
        self._check_names()
        self._check_times()
        if not self.targets:
            object.__setattr__(self, "targets", self.inputs)
        horizons = (
            self.horizon if isinstance(self.horizon, (list, tuple, range)) else [self.horizon]
        )
        for horizon in horizons:
            check_whole("horizon", horizon, least=0)
        if not horizons or sorted(set(horizons)) != list(horizons):
            raise ConfigurationError(f"horizons must increase, got {self.horizon!r}")
        several = tuple(horizons) if len(horizons) > 1 else horizons[0]
        object.__setattr__(self, "horizon", several)
        self._check_classes()
        object.__setattr__(self, "vocabularies", self._checked_vocabularies())
        object.__setattr__(self, "vectors", self._checked_vectors())

    def _check_names(self) -> None:
        for name in ("inputs", "targets", "static", "calendar", "symbols"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(v, str) and v for v in value):
                raise ConfigurationError(f"{name} must be a list of names, got {value!r}")
            if len(set(value)) != len(value):
                raise ConfigurationError(f"{name} names a column twice: {value!r}")
            object.__setattr__(self, name, tuple(value))
        self._check_what_is_seen()
        for name in ("key", "time", "sequence", "weight", "start", "end"):
            value = getattr(self, name)
            optional = name != "key" and value is None
            if not optional and not (isinstance(value, str) and value):
                raise ConfigurationError(f"{name} must be the name of a column, got {value!r}")

    def _check_times(self) -> None:
        if self.time_format is not None:
            check_time_format(self.time_format)
        if self.latest is None:
            return
        # digits alone could be a year or seconds
        bare = isinstance(self.latest, str) and self.latest.isdecimal()
        try:
            latest = micros_of(None if bare else self.latest)
            text = datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=latest)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ConfigurationError(
                f"latest must be a time such as '2100-01-01', got {self.latest!r}"
            ) from error
        object.__setattr__(self, "latest", text.isoformat())

    def _check_what_is_seen(self) -> None:
        if not self.inputs and not self.symbols:
            raise ConfigurationError(f"inputs must name at least one column, got {self.inputs!r}")
        if not self.inputs and not self.targets:
            raise ConfigurationError(
                f"symbols={list(self.symbols)} without inputs: name the targets to predict"
            )
        check_choice("missing", self.missing, MISSING)
        for cycle in self.calendar:
            check_choice("calendar", cycle, CYCLES)
        seen = ("inputs", self.inputs), ("static", self.static), ("symbols", self.symbols)
        for (one, names), (other, others) in combinations(seen, 2):
            twice = set(names) & set(others)
            if twice:
                raise ConfigurationError(f"{one} and {other} both name {', '.join(sorted(twice))}")
        if self.symbols and self.missing == "carry":
            raise ConfigurationError(
                f"missing='carry' is for numbers, got symbols={list(self.symbols)}: take "
                "missing='drop', or a symbol for missing values"
            )

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
                f"classes need exactly one target, got targets={list(self.targets)}"
            )

    def _checked_vocabularies(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        given = _pairs("vocabularies", self.vocabularies)
        for name in given:
            if name not in self.symbols:
                raise ConfigurationError(
                    f"vocabularies name {name!r}, which is not in symbols={list(self.symbols)}"
                )
        return tuple(
            (name, checked_vocabulary(name, given[name])) for name in self.symbols if name in given
        )

    def _checked_vectors(self) -> tuple[tuple[str, int], ...]:
        given = _pairs("vectors", self.vectors)
        for name, size in given.items():
            if name not in (*self.inputs, *self.static, *self.targets) or self.classes:
                raise ConfigurationError(
                    f"vectors name {name!r}, which is not an input, target or static field of "
                    "numbers"
                )
            check_whole(f"the size of the vector {name!r}", size)
        return tuple(given.items())

    def vocabulary(self, name: str) -> tuple[str, ...]:
        """Return the known symbols of a field; empty if they are not known yet."""
        return tuple(_pairs("vocabularies", self.vocabularies).get(name, ()))

    @property
    def vocabulary_sizes(self) -> tuple[int, ...]:
        """The number of symbols in each vocabulary, counting the unknown one."""
        return tuple(len(self.vocabulary(name)) + 1 for name in self.symbols)

    @property
    def has_vocabularies(self) -> bool:
        """Return True if the vocabulary of every symbol field is known."""
        return len(self.vocabularies) == len(self.symbols)

    def with_vocabularies(self, found: Mapping[str, Sequence[str]]) -> "Columns":
        """Return the columns with unknown vocabularies filled in from `found`."""
        return replace(self, vocabularies={**found, **dict(self.vocabularies)})

    def _expanded(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return a name for each number of these fields."""
        sizes = dict(self.vectors)
        return tuple(
            each
            for name in names
            for each in ([f"{name}[{i}]" for i in range(sizes[name])] if name in sizes else [name])
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The numeric input fields of a record."""
        return (*self.inputs, *self.static)

    @property
    def scaled_names(self) -> tuple[str, ...]:
        """The name of each number of the numeric input fields."""
        return self._expanded(self.fields)

    @property
    def own_size(self) -> int:
        """The number of `scaled_names` that are not static; they come first."""
        return len(self._expanded(self.inputs))

    @property
    def number_names(self) -> tuple[str, ...]:
        """The name of each number read from a record: fields, calendar, indices of symbols."""
        symbols = self.symbols if self.has_vocabularies else ()
        return (*self.scaled_names, *cycle_names(self.calendar), *symbols)

    @property
    def number_size(self) -> int:
        """The number of `number_names`."""
        return len(self.number_names)

    @property
    def carried_size(self) -> int:
        """The number of values that are carried forward if missing; they come first."""
        return len(self.scaled_names) if self.missing == "carry" else 0

    @property
    def input_names(self) -> tuple[str, ...]:
        """The name of each number of x: those of a record, then the mask of present fields."""
        there = self.scaled_names[: self.carried_size]
        return (*self.number_names, *(f"{name} there" for name in there))

    @property
    def input_size(self) -> int:
        """The size of x."""
        return self.number_size + self.carried_size

    @property
    def latest_micros(self) -> int:
        """The latest valid time, in microseconds since 1970."""
        return MAX_MICROS if self.latest is None else micros_of(self.latest)

    @property
    def horizons(self) -> tuple[int, ...]:
        """How many records ahead the targets lie, as a tuple."""
        return self.horizon if isinstance(self.horizon, tuple) else (self.horizon,)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The name of each number of the targets, or of each class."""
        return tuple(str(label) for label in self.classes) or self._expanded(self.targets)

    @property
    def target_size(self) -> int:
        """The number of values in the targets of one horizon."""
        return len(self.target_names)

    @property
    def fingerprint(self) -> bytes:
        """A hash of 8 bytes of the settings that affect how records are read for a prediction."""
        read: tuple[Any, ...]
        read = (self.key, self.time, self.inputs, self.sequence, self.start, self.end)
        if self.static or self.calendar:
            read = (*read, self.static, self.calendar)
        if self.carried_size:
            read = (*read, self.missing)
        if self.symbols or self.vectors:
            read = (*read, self.symbols, self.vocabularies, self.vectors)
        if self.time_format is not None:
            read = (*read, self.time_format)
        return hashlib.sha256(json.dumps(read).encode()).digest()[:8]

    def targets_in_inputs(self) -> list[tuple[int, int]]:
        """Return index pairs (target, input) of the numbers that are both.

        >>> Columns(key="id", inputs=["x", "y"], targets=["y", "z"]).targets_in_inputs()
        [(0, 1)]
        """
        if self.classes:
            return []
        places = {name: i for i, name in enumerate(self.scaled_names[: self.own_size])}
        return [(i, places[name]) for i, name in enumerate(self.target_names) if name in places]

    def check_numbers_alone(self, what: str) -> None:
        """Raise if an input field is not a single number.

        Raises:
            ConfigurationError: There are symbols or vectors, which `what` does not support.
        """
        if self.symbols or self.vectors:
            raise ConfigurationError(
                f"{what} needs fields of one number, got symbols={list(self.symbols)} and "
                f"vectors={dict(self.vectors)}"
            )

    def check_nothing_missing(self, what: str) -> None:
        """Raise if values may be missing.

        Raises:
            ConfigurationError: Values may be missing, which `what` does not support.
        """
        if self.missing == "carry":
            raise ConfigurationError(
                f"missing={self.missing!r} is for Train and Predict: {what} needs every value, "
                "use columns with missing='refuse'"
            )

    @property
    def forecasts_inputs(self) -> bool:
        """Return True if the targets are later values of the first inputs, in the same order."""
        first = self.inputs[: len(self.targets)] == self.targets
        return first and not self.classes and self.horizons[0] > 0

    def check_residual(self) -> None:
        """Raise if a network with residual=True cannot add the last value of each target.

        Raises:
            ConfigurationError: The targets are not the first inputs.
        """
        if self.classes or self.inputs[: len(self.targets)] != self.targets:
            raise ConfigurationError(
                "residual=True needs the targets to be the first inputs, in the same order, got "
                f"inputs={list(self.inputs)} and targets={list(self.targets)}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the columns as JSON values; `Columns(**values)` is the inverse.

        Default values are omitted, as in `Network.to_json`.
        """
        always = {"key": self.key, "inputs": list(self.inputs), "targets": list(self.targets)}
        return always | {
            each.name: _as_json(each.name, value)
            for each in fields(self)
            if each.name not in always and (value := getattr(self, each.name)) != each.default
        }


def _pairs(name: str, given: Any) -> dict[str, Any]:
    """Return a mapping from a mapping or from pairs."""
    try:
        return dict(given)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} must be a mapping from fields, got {given!r}") from error


def _as_json(name: str, value: Any) -> Any:
    if name == "vocabularies":
        return {name: list(symbols) for name, symbols in value}
    if name == "vectors":
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
