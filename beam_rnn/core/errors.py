"""The errors of the library.

    BeamRnnError
    ├── ConfigurationError      an argument that cannot work (also a ValueError)
    ├── RecordError             a record that cannot be used (also a ValueError)
    ├── TrainingError           training that cannot continue
    │   ├── DivergenceError         a loss or a parameter that is not finite
    │   └── CheckpointError         a checkpoint that this training cannot resume from
    ├── WeightsError            a weights file that cannot be trusted
    │   ├── NotWeightsError         truncated, altered, or not a weights file
    │   └── WeightsVersionError     written by a newer version of the format
    ├── StateError              stored state that cannot be used
    └── InteropError            a model that the other format, or this library, cannot represent

Every message says what is wrong, the value, and what to do.
"""

import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxdict = _REPR.maxtuple = 64
_REPR.maxlist, _REPR.maxstring, _REPR.maxother = 16, 256, 1024


def shown(value: object) -> str:
    """Return the repr of a value, shortened if it is long, as text that any coder can encode.

    A value whose repr raises, such as a number of thousands of digits, is named by its type.
    """
    try:
        text = _REPR.repr(value)
    except Exception as error:  # noqa: BLE001  # a repr may raise anything
        text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text.encode(errors="backslashreplace").decode()


LONGEST = 1 << 16
"""Maximum number of characters of a record as JSON."""


def record_text(record: object) -> str:
    r"""Return a record as a JSON object, or its repr if it is too long or cannot be converted.

    Bytes and numbers that are not finite become text, because JSON has neither.

        >>> record_text({"id": "a", "x": math.nan, "\0hidden": 1})
        '{"id": "a", "x": "nan"}'
    """
    try:
        value = _as_json(record)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if isinstance(value, dict) and len(text) <= LONGEST:
            return text.encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001, S110  # the values of a record may raise anything
        pass
    return shown(record)


def _as_json(value: Any) -> Any:
    """Return a value as JSON types."""
    finite = isinstance(value, float) and math.isfinite(value)
    if value is None or finite or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    for method in ("_asdict", "as_dict"):  # of a NamedTuple, and of a `beam.Row`
        if hasattr(value, method):
            value = getattr(value, method)()
    if isinstance(value, Mapping):
        return {str(k): _as_json(v) for k, v in value.items() if not str(k).startswith("\0")}
    if isinstance(value, (list, tuple)):
        return [_as_json(each) for each in value]
    for method in ("tolist", "isoformat", "to_rfc3339"):  # of numpy, a datetime, a Timestamp
        if hasattr(value, method):
            return _as_json(getattr(value, method)())
    return str(value)


class BeamRnnError(Exception):
    """The base class of all errors that the library raises itself."""

    __module__ = "beam_rnn.errors"


class ConfigurationError(BeamRnnError, ValueError):
    """An argument is wrong; raised before any pipeline runs."""

    __module__ = "beam_rnn.errors"


class RecordError(BeamRnnError, ValueError):
    """A record cannot be used; inside a pipeline it becomes a dead letter.

    Args:
        reason: What is wrong, with the name of the column.
        value: The offending value.
    """

    __module__ = "beam_rnn.errors"

    def __init__(self, reason: str, value: object):
        super().__init__(f"{reason}, got {shown(value)}")
        self.reason = reason
        self.value = value

    def __reduce__(self) -> tuple[type["RecordError"], tuple[str, object]]:
        return RecordError, (self.reason, self.value)


class TrainingError(BeamRnnError):
    """Training cannot continue: there is nothing to learn from, or the loss is not finite."""

    __module__ = "beam_rnn.errors"


ADVICE = "lower the learning rate, clip the gradient, or look for huge values in the data"


class DivergenceError(TrainingError):
    """The loss or a parameter is not finite.

    Args:
        reason: What is not finite, and where.
        row: The sequence of the batch where it began; None if unknown.
        step: The step of the sequence.

    Attributes:
        model: The last good model, from the previous round; None if unknown.
    """

    __module__ = "beam_rnn.errors"

    def __init__(self, reason: str, row: int | None = None, step: int = 0):
        # Beam recreates the error from its message.
        super().__init__(reason if ADVICE in reason else f"{reason}: {ADVICE}")
        self.reason, self.row, self.step = reason, row, step
        self.model: object = None

    def __reduce__(self) -> tuple[type["DivergenceError"], tuple[str, int | None, int]]:
        return DivergenceError, (self.reason, self.row, self.step)

    def placed(self, place: str) -> "DivergenceError":
        """Return the same error with a place added to its reason."""
        return DivergenceError(self.reason + place, self.row, self.step)


class CheckpointError(TrainingError):
    """Training cannot resume from a checkpoint: it is altered, or of another training."""

    __module__ = "beam_rnn.errors"


class WeightsError(BeamRnnError):
    """A weights file cannot be trusted."""

    __module__ = "beam_rnn.errors"


class NotWeightsError(WeightsError):
    """The file is truncated, altered, or not a weights file."""

    __module__ = "beam_rnn.errors"


class WeightsVersionError(WeightsError):
    """The file was written by a newer version of the format."""

    __module__ = "beam_rnn.errors"


class InteropError(BeamRnnError):
    """A model cannot be represented in this library, or not in another framework."""

    __module__ = "beam_rnn.errors"


class StateError(BeamRnnError):
    """Stored state cannot be used: truncated, of another version, or of another model."""

    __module__ = "beam_rnn.errors"
