"""What steps the records of a key: the interface between the stateful DoFns and the steppers."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from beam_rnn.data.columns import Columns


class Step(NamedTuple):
    """A result, and the record that caused it."""

    record: int  # its place among those that were stepped; -1 if the sequence ended without one
    time: int  # its event time, in microseconds since 1970
    result: Any


class Stepping(Protocol):
    """Steps the records of a key in order: `steppers.predict.Stepper`, for one."""

    columns: Columns

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """The state after records that are in order, and what came of them."""

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """What comes of a key whose state is removed."""

    def refresh(self) -> None:
        """A bundle begins."""

    def use(self, models: Iterable[str]) -> None:
        """These are the models there are."""


class StepperSource(Protocol):
    """What makes a `Stepping` on a worker; it is pickled to get there."""

    def stepper(self) -> Stepping:
        """A new one."""
