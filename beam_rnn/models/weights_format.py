"""Models <-> Arrow file; the only module that knows the format of a single model.

Version 1 is an Arrow IPC file with one row per parameter, each in its own record batch:

| column | type | |
|---|---|---|
| name | string | `layers.0.W_x` and so on |
| shape | list<int64> | rows, columns |
| values | list<float32> | row by row; 64-byte aligned in the file |

The schema's metadata holds, as JSON: `beam_rnn.format_version`, `beam_rnn.network`,
`beam_rnn.columns`, `beam_rnn.scaler`, `beam_rnn.training`, and as text `beam_rnn.digest`
(of the model) and `beam_rnn.seal` (of the file: `beam_rnn.core.sealed_format`). Any Arrow library
can memory-map it without a copy. This library reads it into memory, so that overwriting the file
later does not change a model. There is no pickle in it.

Version 2 holds per-key models, one row per key: `beam_rnn.models.keyed_weights_format`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from beam_rnn.core.arrays import Array
from beam_rnn.core.atomic_files import replace_file
from beam_rnn.core.errors import NotWeightsError, WeightsVersionError
from beam_rnn.core.sealed_format import (
    MAGIC,
    WEIGHTS,
    SealedFile,
    decoding,
    from_json,
    schema_of,
    seal,
)
from beam_rnn.models import keyed_weights_format as keyed_weights
from beam_rnn.models.keyed_models import KeyedModels, Models
from beam_rnn.models.keyed_weights_format import KEYED_VERSION, check_float32
from beam_rnn.models.serialization import check_sizes, model_of
from beam_rnn.models.transducer import Transducer

AnyModel = Models | Transducer
"""Any model that a weights file can hold."""
FORMAT_VERSION = 1

_ALIGNMENT = 64
_FIELDS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("shape", pa.list_(pa.int64()), nullable=False),
        pa.field("values", pa.list_(pa.float32()), nullable=False),
    ]
)
_PADDING_KEY = "padding"


def save(model: AnyModel, path: str | os.PathLike[str]) -> None:
    """Write a model to a local file, atomically: see `beam_rnn.core.atomic_files`.

    Args:
        model: The model or the per-key models; parameters are float32.
        path: The file; an existing one is replaced. Missing folders are created.

    Raises:
        WeightsError: The parameters are not float32.
        OSError: The file cannot be written.
    """
    replace_file(path, to_bytes(model))


def load(path: str | os.PathLike[str]) -> Any:
    """Read a `Model`, `Transducer` or `KeyedModels` from a local file into memory.

    The parameters are views of one aligned buffer. Overwriting or removing the file afterwards does
    not change them.

        >>> from beam_rnn import Model, Network
        >>> network = Network("gru", hidden=4)
        >>> model = Model(network, network.initialize(inputs=2, outputs=1, seed=0))
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(model, f"{folder}/weights.arrow")
        ...     load(f"{folder}/weights.arrow") == model
        True

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        NotWeightsError: The file is truncated, altered, or not a weights file.
        WeightsVersionError: A newer version of the library wrote it.
    """
    return from_buffer(read(path), os.fspath(path))


def read(path: str | os.PathLike[str]) -> pa.Buffer:
    """Return the bytes of a local file, aligned; only the first few if it is not an Arrow file.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        start = file.read(len(MAGIC))
        if start != MAGIC:
            return pa.py_buffer(start)
        file.seek(0)
        data = pa.allocate_buffer(os.fstat(file.fileno()).st_size)
        return data.slice(0, file.readinto(memoryview(data)))


def to_bytes(model: AnyModel) -> bytes:
    """Return a model or per-key models as a weights file; equal models give the same bytes.

    Raises:
        WeightsError: The parameters are not float32.
    """
    if isinstance(model, KeyedModels):
        return keyed_weights.to_bytes(model)
    check_float32(model)
    facts = {**model.to_json(), "training": dict(model.training)}
    texts = {
        "format_version": str(FORMAT_VERSION),
        **{name: json.dumps(value, sort_keys=True) for name, value in facts.items()},
        "digest": model.digest,
    }
    schema = schema_of(WEIGHTS, _FIELDS, texts)
    # Arrow aligns to 8 bytes. The metadata of a batch comes before its values, so a padding text in
    # it aligns them to 64.
    paddings = [0] * len(model.parameters)
    for i, address in enumerate(_addresses(_write(model.parameters, schema, paddings))):
        paddings[i] = -(address + sum(paddings)) % _ALIGNMENT
    return seal(_write(model.parameters, schema, paddings))


def from_buffer(data: pa.Buffer | bytes, name: str = "<buffer>") -> Any:
    """Return a `Model`, `Transducer` or `KeyedModels` from the bytes of a weights file.

    The parameters are views of the bytes.

    Args:
        data: The bytes.
        name: The name of the file in errors.

    Raises:
        NotWeightsError: The bytes are truncated, altered, or not a weights file.
        WeightsVersionError: A newer version of the library wrote them.
    """
    data = pa.py_buffer(data)
    if not data.size:
        raise NotWeightsError(f"{name!r} is empty, not a weights file")
    with decoding(name, NotWeightsError):
        file = SealedFile(data, WEIGHTS)
        version = int(file.texts["format_version"])
        if version > KEYED_VERSION:
            raise WeightsVersionError(
                f"{name!r} has weights format version {version}, this beam_rnn reads up to "
                f"{KEYED_VERSION}: install a newer beam_rnn"
            )
        model: AnyModel = (
            _model(file) if version == FORMAT_VERSION else keyed_weights.from_file(data, file, name)
        )
        recorded = file.texts["digest"]
    if model.digest != recorded:
        raise NotWeightsError(
            f"{name!r} is altered: its parameters have the digest {model.digest}, but "
            f"were written with {recorded}"
        )
    return model


def _write(parameters: Mapping[str, Array], schema: pa.Schema, paddings: list[int]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for (name, value), padding in zip(parameters.items(), paddings, strict=True):
            values = pa.ListArray.from_arrays(
                pa.array([0, value.size], pa.int32()), pa.array(value.reshape(-1))
            )
            row = pa.record_batch(
                [pa.array([name]), pa.array([value.shape], _FIELDS[1].type), values], schema
            )
            writer.write_batch(row, {_PADDING_KEY: "." * (padding + 1)})
    return sink.getvalue()


def _addresses(data: pa.Buffer) -> list[int]:
    """Return the offset of the values of each parameter in the file."""
    with pa.ipc.open_file(data) as reader:
        rows = [reader.get_batch(i).column("values") for i in range(reader.num_record_batches)]
    return [row.values.buffers()[1].address - data.address for row in rows]


def _model(file: SealedFile) -> Any:
    table = file.table(_FIELDS)
    facts = {k: from_json(file.texts[k]) for k in ("network", "columns", "scaler", "training")}
    values = table.column("values")
    check_sizes(facts, len(table), sum(len(chunk.values) for chunk in values.chunks))
    parameters = {}
    for batch in table.to_batches():
        for name, shape, row in zip(*batch.columns, strict=True):
            flat = row.values.to_numpy(zero_copy_only=True)
            parameters[name.as_py()] = flat.reshape(shape.as_py())
    return model_of(facts, parameters, facts["training"])
