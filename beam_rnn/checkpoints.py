"""Standing <-> checkpoint file; the only module that knows this format.

Version 1 is an Arrow IPC file with one row an array of the training's standing:

| column | type | |
|---|---|---|
| name | string | `parameters/layers.0.W_x`, `optimizer_state/mean/head.b_y` and so on |
| type | string | float32, as numpy names it |
| shape | list<int64> | |
| data | binary | little-endian, row by row |

The schema's metadata holds, as JSON: `beam_rnn.checkpoint_version`, `beam_rnn.network`,
`beam_rnn.columns`, `beam_rnn.scaler`, `beam_rnn.settings`, `beam_rnn.facts` (of the model) and
`beam_rnn.standing` (all that is no array), and as text `beam_rnn.sha256`, of all of it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_rnn.cells import Array
from beam_rnn.described import model_of as described
from beam_rnn.described import network_of
from beam_rnn.errors import CheckpointError
from beam_rnn.plan import Plan
from beam_rnn.rounds import Standing, Trained, model_of
from beam_rnn.schedules import Best, PlateauState
from beam_rnn.settings import Rounds, Training

CHECKPOINT_VERSION = 1

_VERSION = b"beam_rnn.checkpoint_version"
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
"""The settings that a training may go on with when they are others."""


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""

    standing: Standing
    facts: Mapping[str, Any]  # network, columns, scaler and settings, as JSON values
    model: Trained  # the best so far


def is_checkpoint(data: bytes) -> bool:
    """Whether bytes are those of a checkpoint, not of a weights file."""
    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as reader:
            return _VERSION in (reader.schema.metadata or {})
    except (pa.ArrowException, OSError):
        return False


def to_bytes(standing: Standing, plan: Plan, training: Training, rounds: Rounds) -> bytes:
    """A standing as the bytes of a checkpoint file; the same standing gives the same bytes."""
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
    metadata = {f"beam_rnn.{name}": text for name, text in texts.items()}
    metadata |= {_VERSION.decode(): str(CHECKPOINT_VERSION)}
    metadata |= {"beam_rnn.sha256": _digest(texts, rows)}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _SCHEMA.with_metadata(metadata)) as writer:
        writer.write_table(pa.Table.from_pylist(rows, _SCHEMA.with_metadata(metadata)))
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes, name: str = "<buffer>") -> Checkpoint:
    """The inverse of `to_bytes`.

    Args:
        data: The bytes.
        name: What to call them in an error.

    Raises:
        CheckpointError: They are cut, altered, or no checkpoint.
    """
    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as reader:
            table = reader.read_all()
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        if int(metadata[_VERSION.decode()]) > CHECKPOINT_VERSION:
            raise CheckpointError(
                f"{name!r} has checkpoint version {metadata[_VERSION.decode()]}, this beam_rnn "
                f"reads up to {CHECKPOINT_VERSION}: install a newer beam_rnn"
            )
        rows = table.to_pylist()
        keys = ("network", "columns", "scaler", "settings", "facts", "standing")
        texts = {key: metadata[f"beam_rnn.{key}"] for key in keys}
        if _digest(texts, rows) != metadata["beam_rnn.sha256"]:
            raise CheckpointError(f"{name!r} is altered: it has another digest than when written")
        return _checkpoint({key: json.loads(text) for key, text in texts.items()}, rows)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{name!r} cannot be read as a checkpoint, it is cut, altered or of another format: "
            f"{error}"
        ) from error


def check_goes_on(
    checkpoint: Checkpoint, plan: Plan, training: Training, rounds: Rounds, name: str
) -> Standing:
    """Where a training goes on.

    Raises:
        CheckpointError: The checkpoint is of another training: of another network, other data,
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
    """The settings that decide what comes next."""
    settings = {**training.settings(plan.network), **rounds.settings(training)}
    return {name: value for name, value in settings.items() if name not in _MAY_CHANGE}


def _leaves(path: str, tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for name, branch in tree.items():
            yield from _leaves(f"{path}/{name}", branch)
    else:
        yield path, dict(tree) if isinstance(tree, Mapping) else tree


def _digest(texts: Mapping[str, str], rows: list[dict[str, Any]]) -> str:
    sha = hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode())
    for row in rows:
        sha.update(f"\0{row['name']}\0{row['type']}\0{row['shape']}\0".encode())
        sha.update(row["data"])
    return sha.hexdigest()


def _checkpoint(facts: dict[str, Any], rows: list[dict[str, Any]]) -> Checkpoint:
    there = facts["standing"]
    trees: dict[str, Any] = {}
    arrays: dict[str, Array] = {
        row["name"]: np.frombuffer(row["data"], f"<{np.dtype(row['type']).str[1:]}").reshape(
            row["shape"]
        )
        for row in rows
    }
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
