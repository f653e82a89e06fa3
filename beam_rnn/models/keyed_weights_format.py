"""Per-key models <-> Arrow file; the only module that knows this format.

It is version 2 of a weights file: an Arrow IPC file with one row per key, sorted by key:

| column | type | |
|---|---|---|
| key | string | null in the row of the fallback, which comes first |
| digest | string | the digest of the key's model |
| values | list<float32> | the parameters, one after another, each row by row |
| scaler | string | JSON, as in the metadata of version 1 |
| training | string | JSON: the facts about the training that differ between keys |
| reason | string | why the key has no model; the rest of its row is null |

The schema's metadata holds, as JSON: `beam_rnn.format_version`, `beam_rnn.network`,
`beam_rnn.columns`, `beam_rnn.shapes` (name and shape of each parameter, in the order of the
values), `beam_rnn.training` (the facts that all models share), and as text `beam_rnn.digest`
(the digest of the set) and `beam_rnn.seal` (of the file: `beam_rnn.core.sealed_format`).

Values are not padded: a row begins where the previous one ends, at a multiple of 4 bytes. A model
is still a view of the file, and each key takes about 60 bytes less.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import NotWeightsError, TrainingError, WeightsError
from beam_rnn.core.sealed_format import WEIGHTS, SealedFile, decoding, from_json, schema_of, seal
from beam_rnn.data.columns import Columns
from beam_rnn.data.scaling import Scaler
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.model import Model
from beam_rnn.models.serialization import check_sizes, network_of
from beam_rnn.models.transducer import Transducer

KEYED_VERSION = 2
ROWS_IN_A_BATCH = 65_536

_ROWS = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("digest", pa.string()),
        pa.field("values", pa.list_(pa.float32())),
        pa.field("scaler", pa.string()),
        pa.field("training", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
_DESCRIBED = ("network", "columns", "shapes")


def check_float32(model: Model | Transducer) -> None:
    """Raise if a weights file cannot hold the parameters.

    Raises:
        WeightsError: They are not float32.
    """
    if model.dtype != np.float32:
        raise WeightsError(
            f"a weights file holds float32, but the parameters are {model.dtype}: write "
            "model.astype('float32')"
        )


def encode_model(key: str | None, model: Model) -> bytes:
    """Return the row of a key's model, as bytes; the key None is the fallback."""
    check_float32(model)
    values = model.to_json()
    row = {
        "key": key,
        "digest": model.digest,
        "values": np.concatenate([value.reshape(-1) for value in model.parameters.values()]),
        "scaler": _json(values["scaler"]),
        "training": _json(dict(model.training)),
    }
    shapes = [[name, value.shape] for name, value in model.parameters.items()]
    described = {"network": values["network"], "columns": values["columns"], "shapes": shapes}
    return _encode_row(row, {name: _json(value) for name, value in described.items()})


def encode_reason(key: str, reason: str) -> bytes:
    """Return the row of a key that has no model, as bytes."""
    return _encode_row({"key": key, "reason": reason}, {})


def _encode_row(row: Mapping[str, Any], described: Mapping[str, str]) -> bytes:
    schema = _ROWS.with_metadata(dict(described))
    batch = pa.record_batch([pa.array([row.get(f.name)], f.type) for f in _ROWS], schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def joined(rows: Iterable[bytes]) -> bytes:
    """Return the file of rows from `encode_model` and `encode_reason`, in any order.

    Raises:
        TrainingError: No row has a model, or their columns differ.
    """
    parts = [pa.ipc.open_stream(row).read_all() for row in rows]
    reasons = [part.column("reason")[0].as_py() for part in parts]
    described = {_described(part) for part in parts if part.schema.metadata}
    if not described:
        raise TrainingError(
            "there is no model: training failed for every key, and there is no fallback. "
            + (
                f"The first of {len(reasons)} reasons: {reasons[0]}"
                if reasons
                else "There was no key"
            )
        )
    if len(described) > 1:
        raise TrainingError(f"the models have different networks or columns: {sorted(described)}")
    table = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
    keys = table.column("key").to_pylist()
    order = sorted(range(len(keys)), key=lambda i: (keys[i] is not None, keys[i]))
    return _file(table.take(order).combine_chunks(), dict(zip(_DESCRIBED, *described, strict=True)))


def _described(part: pa.Table) -> tuple[str, ...]:
    return tuple(part.schema.metadata[name.encode()].decode() for name in _DESCRIBED)


def _file(table: pa.Table, described: Mapping[str, str]) -> bytes:
    """Return the file of sorted rows."""
    shared, table = _with_shared_facts(table)
    batches = table.to_batches(ROWS_IN_A_BATCH)
    read = StoredModels(pa.py_buffer(b""), "<rows>", table, {**described, "training": shared})
    metadata = {
        "format_version": str(KEYED_VERSION),
        **described,
        "training": shared,
        "digest": read.models().digest,
    }
    schema = schema_of(WEIGHTS, _ROWS, metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return seal(sink.getvalue())


def _with_shared_facts(table: pa.Table) -> tuple[str, pa.Table]:
    """Return the training facts that all models share, and the rows with the others."""
    texts = table.column("training").to_pylist()
    facts = [None if text is None else json.loads(text) for text in texts]
    known = [each for each in facts if each is not None]
    nothing = object()
    shared = {
        name: value
        for name, value in known[0].items()
        if all(each.get(name, nothing) == value for each in known)
    }
    rest = [
        None if each is None else _json({k: v for k, v in each.items() if k not in shared})
        for each in facts
    ]
    at = table.schema.get_field_index("training")
    return _json(shared), table.set_column(at, _ROWS.field("training"), pa.array(rest, pa.string()))


def to_bytes(models: KeyedModels) -> bytes:
    """Return per-key models as a weights file; equal models give the same bytes.

    Raises:
        WeightsError: Parameters are not float32.
    """
    stored = models.models
    if isinstance(stored, StoredModels) and stored.is_all_of(models):
        return stored.data.to_pybytes()
    rows = [encode_model(key, model) for key, model in models.models.items()]
    rows += [encode_reason(key, reason) for key, reason in models.reasons.items()]
    if models.fallback is not None:
        rows.append(encode_model(None, models.fallback))
    return joined(rows)


def from_file(data: pa.Buffer, file: SealedFile, name: str) -> KeyedModels:
    """Return the models of a file; each is a view of the bytes, made on access.

    Args:
        data: The bytes of the file.
        file: The same file, with its seal verified.
        name: The name of the file in errors.

    Raises:
        ValueError, KeyError, TypeError: The bytes do not fit together.
    """
    return StoredModels(data, name, file.table(_ROWS), file.texts).models()


class StoredModels(Mapping[str, Model]):
    """The models of a file by key, each made on access.

    Args:
        data: The bytes of the file.
        name: The name of the file in errors.
        table: Its rows.
        text: Its metadata.
    """

    def __init__(self, data: pa.Buffer, name: str, table: pa.Table, text: Mapping[str, str]):
        self.data = data
        self._name = name
        self._table = table
        facts = {k: from_json(text[k]) for k in (*_DESCRIBED, "training")}
        self._shapes = {name: tuple(shape) for name, shape in facts["shapes"]}
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        _check_rows(table, sum(sizes))
        check_sizes(facts, len(sizes), sum(sizes))
        self._network, self._columns = network_of(facts["network"]), Columns(**facts["columns"])
        self._training = facts["training"]
        self._ends = np.cumsum(sizes)
        keys, digests = (table.column(i).to_pylist() for i in (0, 1))
        if len(set(keys)) != len(keys):
            raise ValueError(f"a key has two rows: {len(keys)} rows, {len(set(keys))} keys")
        self._rows = {key: i for i, key in enumerate(keys) if digests[i] is not None}
        self._fallback = self._rows.pop(None, None)
        self.digests = {key: digests[i] for key, i in self._rows.items()}

    def models(self) -> KeyedModels:
        """Return all models of the file."""
        fallback = None if self._fallback is None else self._model(self._fallback)
        keys, reasons = self._table.column("key"), self._table.column("reason")
        without = pc.indices_nonzero(reasons.is_valid()).to_pylist()
        why = {keys[i].as_py(): reasons[i].as_py() for i in without}
        return KeyedModels(self._network, self._columns, self, self.digests, fallback, why)

    def is_all_of(self, models: KeyedModels) -> bool:
        """Return True if the file holds exactly these models."""
        here = self.models()
        return (models.digest, models.reasons) == (here.digest, here.reasons)

    def __getitem__(self, key: str) -> Model:
        return self._model(self._rows[key])

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return _stored, (self.data.to_pybytes(), self._name)

    def _model(self, row: int) -> Model:
        with decoding(self._name, NotWeightsError):
            _, digest, values, scaler, training, _ = (column[row] for column in self._table.columns)
            numbers = values.values.to_numpy(zero_copy_only=True)
            parts: list[Array] = np.split(numbers, self._ends[:-1])
            scaling = from_json(scaler.as_py())
            model = Model(
                self._network,
                {n: v.reshape(s) for (n, s), v in zip(self._shapes.items(), parts, strict=True)},
                self._columns,
                scaling and Scaler.from_json(scaling),
                {**self._training, **from_json(training.as_py())},
            )
        if model.digest != digest.as_py():
            raise NotWeightsError(
                f"{self._name!r} is altered: the parameters in row {row} have the digest "
                f"{model.digest}, but were written with {digest}"
            )
        return model


def _check_rows(table: pa.Table, numbers: int) -> None:
    """Raise if a row has neither a model with this many numbers nor a reason.

    Raises:
        ValueError: A row has neither.
    """
    lengths = pc.list_value_length(table.column("values")).drop_null()
    if numbers < 1 or not pc.all(pc.equal(lengths, numbers), min_count=0).as_py():
        raise ValueError(f"a row does not have the {numbers} parameters that the shapes require")
    has_model = table.column("digest").is_valid()
    for name in ("values", "scaler", "training", "reason"):
        expected = pc.invert(has_model) if name == "reason" else has_model
        if not table.column(name).is_valid().equals(expected):
            raise ValueError(f"a row has neither a model nor a reason: see its {name}")


def _stored(data: bytes, name: str) -> Mapping[str, Model]:
    buffer = pa.py_buffer(data)
    with decoding(name, NotWeightsError):
        return from_file(buffer, SealedFile(buffer, WEIGHTS), name).models


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
