"""What can go wrong, as a tree.

    BeamRnnError
    ├── ConfigurationError      an argument that cannot work (also a ValueError)
    ├── RecordError             a record that cannot be used (also a ValueError)
    ├── TrainingError           training that cannot go on
    │   ├── DivergenceError         a loss, or a parameter, that is not finite
    │   └── CheckpointError         a checkpoint that this training cannot go on from
    ├── WeightsError            a weights file that cannot be trusted
    │   ├── NotWeightsError         cut, altered, or not a weights file
    │   └── WeightsVersionError     written by a newer version of the format
    ├── StateError              stored state that cannot be used
    └── InteropError            a model that another format, or this library, cannot hold

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
    """A value as Python writes it, shortened if it is long; text that any coder can encode.

    What cannot be written, as a number of thousands of digits, is named by its type.
    """
    try:
        text = _REPR.repr(value)
    except Exception as error:  # noqa: BLE001  # a repr may raise anything
        text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text.encode(errors="backslashreplace").decode()


LONGEST = 1 << 16
"""The most characters of a record as JSON."""


def record_text(record: object) -> str:
    r"""Return a record as a JSON object; as Python writes it if it cannot be one, or is long.

    A number that is not finite, and bytes, become text, since JSON has neither.

        >>> record_text({"id": "a", "x": math.nan, "\0hidden": 1})
        '{"id": "a", "x": "nan"}'
    """
    try:
        value = _as_json(record)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if isinstance(value, dict) and len(text) <= LONGEST:
            return text.encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001, S110  # what a record holds may raise anything
        pass
    return shown(record)


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it."""
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
    """The root: catch this to catch everything that the library raises itself."""

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
    """Training cannot go on: nothing to learn from, or a loss that is not finite."""

    __module__ = "beam_rnn.errors"


ADVICE = "lower the learning rate, clip the gradient, or look for huge values in the data"


class DivergenceError(TrainingError):
    """The loss, or a parameter, is not finite.

    Args:
        reason: What is not, and where.
        row: Which sequence of the batch began it; None if that cannot be told.
        step: At which step of the sequence.

    Attributes:
        model: The last good model, of the round before; None if it is not known here.
    """

    __module__ = "beam_rnn.errors"

    def __init__(self, reason: str, row: int | None = None, step: int = 0):
        # Beam makes the error anew from its own message.
        super().__init__(reason if ADVICE in reason else f"{reason}: {ADVICE}")
        self.reason, self.row, self.step = reason, row, step
        self.model: object = None

    def __reduce__(self) -> tuple[type["DivergenceError"], tuple[str, int | None, int]]:
        return DivergenceError, (self.reason, self.row, self.step)

    def placed(self, place: str) -> "DivergenceError":
        """The same error, that says more of where it was."""
        return DivergenceError(self.reason + place, self.row, self.step)


class CheckpointError(TrainingError):
    """A checkpoint cannot be gone on from: it is altered, or of another training."""

    __module__ = "beam_rnn.errors"


class WeightsError(BeamRnnError):
    """A weights file cannot be trusted."""

    __module__ = "beam_rnn.errors"


class NotWeightsError(WeightsError):
    """The file is cut, altered, or was never a weights file."""

    __module__ = "beam_rnn.errors"


class WeightsVersionError(WeightsError):
    """The file was written by a newer version of the format."""

    __module__ = "beam_rnn.errors"


class InteropError(BeamRnnError):
    """A model of another framework cannot be represented here, or ours not there."""

    __module__ = "beam_rnn.errors"


class StateError(BeamRnnError):
    """Stored state cannot be used: cut, of another version, or of another model."""

    __module__ = "beam_rnn.errors"
