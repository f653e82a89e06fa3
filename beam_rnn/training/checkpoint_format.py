"""Standing <-> checkpoint file; the only module that knows this format.

Version 1 is an Arrow IPC file with a row for each array of the `Standing`:

| column | type | |
|---|---|---|
| name | string | `parameters/layers.0.W_x`, `optimizer_state/mean/head.b_y` and so on |
| type | string | float32, as numpy names it |
| shape | list<int64> | |
| data | binary | little-endian, row by row |

The schema's metadata holds, as JSON: `beam_rnn.checkpoint_version`, `beam_rnn.network`,
`beam_rnn.columns`, `beam_rnn.scaler`, `beam_rnn.settings`, `beam_rnn.facts` (of the model) and
`beam_rnn.standing` (everything else), and as text `beam_rnn.seal` (of the file:
`beam_rnn.core.sealed_format`).
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import CheckpointError
from beam_rnn.core.sealed_format import (
    CHECKPOINT,
    SealedFile,
    decoding,
    from_json,
    kind_of,
    schema_of,
    seal,
)
from beam_rnn.models.serialization import check_sizes, network_of
from beam_rnn.models.serialization import model_of as described
from beam_rnn.nn.schedules import Best, PlateauState
from beam_rnn.training.plan import Plan
from beam_rnn.training.rounds import Standing, model_of
from beam_rnn.training.settings import Rounds, Training
from beam_rnn.training.task import Trained

CHECKPOINT_VERSION = 1

_TEXTS = ("network", "columns", "scaler", "settings", "facts", "standing")
_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("shape", pa.list_(pa.int64()), nullable=False),
        pa.field("data", pa.large_binary(), nullable=False),
    ]
)
_TREES = ("parameters", "optimizer_state", "outer_state", "best_parameters")
_MAY_CHANGE = {"epochs", "rounds", "patience", "on_divergence"}
"""The settings that may differ when a training resumes."""


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""

    standing: Standing
    facts: Mapping[str, Any]  # network, columns, scaler and settings, as JSON values
    model: Trained  # the best so far


def is_checkpoint(data: pa.Buffer | bytes) -> bool:
    """Return True if the bytes are those of a checkpoint, not of a weights file."""
    return kind_of(data) == CHECKPOINT


def to_bytes(standing: Standing, plan: Plan, training: Training, rounds: Rounds) -> bytes:
    """Return the bytes of a checkpoint file; the same standing gives the same bytes."""
    model = model_of(standing, plan, training, rounds)
    arrays: dict[str, Array] = {}
    others: dict[str, Any] = {}
    for tree in _TREES:
        for path, leaf in _leaves(tree, getattr(standing, tree)):
            (arrays if isinstance(leaf, np.ndarray) else others)[path] = leaf
    facts = {
        **model.to_json(),
        "settings": _settings(plan, training, rounds),
        "facts": dict(model.training),
        "standing": {
            "rounds": standing.rounds,
            "rate": [*standing.rate.best, standing.rate.factor],
            "best": list(standing.best),
            "loss_curve": standing.loss_curve,
            "validation_curve": standing.validation_curve,
            "over": standing.over,
            "others": others,
        },
    }
    texts = {name: json.dumps(value, sort_keys=True) for name, value in facts.items()}
    rows = [
        {
            "name": name,
            "type": array.dtype.name,
            "shape": list(array.shape),
            "data": array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(),
        }
        for name, array in arrays.items()
    ]
    schema = schema_of(
        CHECKPOINT, _SCHEMA, {"checkpoint_version": str(CHECKPOINT_VERSION), **texts}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema))
    return seal(sink.getvalue())


def from_bytes(data: pa.Buffer | bytes, name: str = "<buffer>") -> Checkpoint:
    """Return what a checkpoint file holds: the inverse of `to_bytes`.

    Args:
        data: The bytes.
        name: Their name in an error.

    Raises:
        CheckpointError: They are truncated, altered, or not a checkpoint.
    """
    with decoding(name, CheckpointError):
        file = SealedFile(pa.py_buffer(data), CHECKPOINT)
        version = int(file.texts["checkpoint_version"])
        if version > CHECKPOINT_VERSION:
            raise CheckpointError(
                f"{name!r} has checkpoint version {version}, this beam_rnn reads up to "
                f"{CHECKPOINT_VERSION}: install a newer beam_rnn"
            )
        rows = file.table(_SCHEMA).to_pylist()
        return _checkpoint({key: from_json(file.texts[key]) for key in _TEXTS}, rows)


def check_goes_on(
    checkpoint: Checkpoint, plan: Plan, training: Training, rounds: Rounds, name: str
) -> Standing:
    """Return the state to resume a training from.

    Raises:
        CheckpointError: The checkpoint is of another training: it has another network, other data,
            or other settings.
    """
    here = {
        "network": plan.network.to_json(),
        "columns": plan.columns.to_json(),
        "scaler": plan.scaler and plan.scaler.to_json(),
        "settings": _settings(plan, training, rounds),
    }
    there = {**checkpoint.facts, "settings": dict(checkpoint.facts["settings"])}
    for what, value in json.loads(json.dumps(here)).items():
        if there[what] != value:
            was, now = there[what], value
            if what == "settings":
                different = sorted(k for k in {*was, *now} if was.get(k) != now.get(k))
                was, now = ({k: each.get(k) for k in different} for each in (was, now))
            if what == "scaler":
                raise CheckpointError(
                    f"{name!r} is of a training on other records: its scaler differs. Resume on "
                    "the same records, or start from its weights with Train(start=...)"
                )
            raise CheckpointError(f"{name!r} is of another training, of {what} {was}, not {now}")
    standing = checkpoint.standing
    if standing.over == "rounds" and standing.rounds < rounds.rounds_of(training):
        return standing._replace(over="")
    return standing


def _settings(plan: Plan, training: Training, rounds: Rounds) -> dict[str, Any]:
    """Return the settings that decide the result of the next round."""
    settings = {**training.settings(plan.network), **rounds.settings(training)}
    return {name: value for name, value in settings.items() if name not in _MAY_CHANGE}


def _leaves(path: str, tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for name, branch in tree.items():
            yield from _leaves(f"{path}/{name}", branch)
    else:
        yield path, dict(tree) if isinstance(tree, Mapping) else tree


def _checkpoint(facts: dict[str, Any], rows: list[dict[str, Any]]) -> Checkpoint:
    there = facts["standing"]
    trees: dict[str, Any] = {}
    arrays = {row["name"]: _array(row) for row in rows}
    check_sizes(facts, len(arrays), sum(array.size for array in arrays.values()))
    for path, leaf in {**arrays, **there["others"]}.items():
        *names, last = path.split("/")
        branch = trees
        for name in names:
            branch = branch.setdefault(name, {})
        branch[last] = leaf
    best, epochs_ago, factor = there["rate"]
    standing = Standing(
        network_of(facts["network"]),
        there["rounds"],
        trees["parameters"],
        trees["optimizer_state"],
        trees["outer_state"],
        PlateauState(Best(best, epochs_ago), factor),
        Best(*there["best"]),
        trees["best_parameters"],
        tuple(there["loss_curve"]),
        tuple(there["validation_curve"]),
        there["over"],
    )
    return Checkpoint(standing, facts, described(facts, standing.best_parameters, facts["facts"]))


def _array(row: Mapping[str, Any]) -> Array:
    stored = np.dtype(row["type"]).newbyteorder("<")
    if stored.kind not in "fiub" or len(row["data"]) != math.prod(row["shape"]) * stored.itemsize:
        raise ValueError(
            f"{row['name']!r} has {len(row['data'])} bytes, not {row['shape']} numbers"
        )
    return np.frombuffer(row["data"], stored).reshape(row["shape"])
