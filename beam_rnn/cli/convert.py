r"""Convert weights files to models of PyTorch, Keras and ONNX, and back.

    beam-rnn convert --input weights.arrow --output weights.onnx
    beam-rnn convert --input model.keras --output weights.arrow \
        --key id --time at --inputs pressure,flow --targets flow
    beam-rnn convert --input weights.onnx --output again.arrow --like weights.arrow

The suffix of a file says its format: .arrow (a weights file), .onnx, .keras, .safetensors (a
state_dict of PyTorch). Needs the extra `interop`.

Only a weights file says which columns a model reads, and how they are scaled. For a model that was
trained elsewhere name the columns with flags, or take both from another weights file with --like.
The command warns about anything that the target format cannot represent.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from beam_rnn import interop
from beam_rnn.cli import flags
from beam_rnn.cli.dataclass_flags import add_flags, made
from beam_rnn.cli.output_paths import check_outputs
from beam_rnn.core.errors import BeamRnnError, ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.interop.pytorch import SAVE
from beam_rnn.models.model import Model
from beam_rnn.nn.network import Network
from beam_rnn.training.model_files import read_any_model, write_model

WEIGHTS = ".arrow"
READERS: Mapping[str, Callable[[str], Any]] = {
    WEIGHTS: read_any_model,
    ".onnx": interop.from_onnx,
    ".keras": interop.from_keras,
    ".safetensors": interop.from_torch,
}
WRITERS: Mapping[str, Callable[[Model, str], None]] = {
    WEIGHTS: write_model,
    ".onnx": interop.to_onnx,
    ".keras": interop.to_keras,
    ".safetensors": interop.to_torch,
}
FLOAT32_ALONE = (WEIGHTS, ".onnx")
COLUMN_FLAGS = ("key", "time", "inputs", "targets", "horizon")


class ConversionError(BeamRnnError):
    """A file cannot be read or written."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return our flags; there are none of Beam's."""
    parser = flags.parser("convert", __doc__)
    parser.add_argument("--input", required=True, help="the model to read")
    parser.add_argument("--output", required=True, help="the file to write")
    add_flags(parser, Columns, COLUMN_FLAGS, unset=True)
    parser.add_argument("--like", help="a weights file to take columns and scaler from")
    parser.add_argument(
        "--activation",
        choices=("tanh", "relu"),
        help="the activation of an nn.RNN of PyTorch, which its file does not hold",
    )
    parser.add_argument(
        "--head",
        help="the name of PyTorch's linear module, if its shape does not show that it comes after "
        "the recurrent one",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Read -> add the columns -> write."""
    args = parse(argv)
    written = _suffix("--output", args.output, WRITERS)
    _suffix("--input", args.input, READERS)
    check_outputs({"--input": args.input, "--like": args.like}, {"--output": args.output})
    model = _read("--input", args.input, activation=args.activation, head=args.head)
    with _naming("--input", args.input):
        model = _described(model, args)
    if written == WEIGHTS and model.columns is None:
        raise ConfigurationError(
            f"--output {args.output!r} would not say which fields of a record the model sees, and "
            "Predict could not use it: give --key, --inputs and, as needed, --time, --targets and "
            "--horizon, or --like and a weights file that says it"
        )
    if written in FLOAT32_ALONE and model.dtype != np.float32:
        _say(f"{args.output} holds float32: the numbers of {model.dtype} are rounded")
        model = model.astype(np.float32)
    with _naming("--output", args.output):
        WRITERS[written](model, args.output)
    for line in _left_out(model, args.output, written):
        _say(line)
    print(f"wrote {args.output}")


def _suffix(flag: str, path: str, known: Mapping[str, object]) -> str:
    """Return the suffix of a file, which says its format."""
    found = os.path.splitext(path)[1].lower()
    if found in known:
        return found
    hints = {
        ".h5": "; load it in Keras 3 and save it as .keras",
        ".hdf5": "; load it in Keras 3 and save it as .keras",
        **dict.fromkeys((".pt", ".pth"), f"; a state_dict is saved by {SAVE}"),
    }
    raise ConfigurationError(
        f"{flag} must end in one of {', '.join(known)}, got {path!r}{hints.get(found, '')}"
    )


def _read(flag: str, path: str, **more: str | None) -> Model:
    """Return the model of a file; `more` is for PyTorch's alone."""
    read = READERS[_suffix(flag, path, READERS)]
    with _naming(flag, path):
        if read is interop.from_torch:
            return interop.from_torch(path, **more)
        model = read(path)
        if not isinstance(model, Model):
            raise ConfigurationError(
                f"it holds a {type(model).__name__}, only a file of one Model is converted"
            )
        return model


@contextmanager
def _naming(flag: str, path: str) -> Iterator[None]:
    """Let errors name the file that is at fault, and its flag."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{flag} {path!r}: {error}") from error
    except (BeamRnnError, OSError) as error:
        if isinstance(error, FileNotFoundError) and flag != "--output":
            raise ConversionError(f"{flag}: there is no file {path!r}") from error
        reason = getattr(error, "strerror", None) or error
        raise ConversionError(f"{flag} {path!r}: {reason}") from error


def _described(model: Model, args: argparse.Namespace) -> Model:
    """Return the model with the columns, and the scaler, that the flags name."""
    given = {name: getattr(args, name) for name in COLUMN_FLAGS}
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if args.like is not None:
        if named:
            raise ConfigurationError(
                f"--like {args.like!r} has what {', '.join(named)} would name: leave out one or "
                "the other"
            )
        return _like(model, _read("--like", args.like), args.like)
    if not named:
        return model
    if args.key is None or args.inputs is None:
        raise ConfigurationError(f"{', '.join(named)} alone: --key and --inputs are needed too")
    return _with(model, columns=made(Columns, args, COLUMN_FLAGS))


def _like(model: Model, other: Model, path: str) -> Model:
    """Return the model with the columns, the scaler and the meaning of outputs of another."""
    if other.columns is None:
        raise ConfigurationError(
            f"--like {path!r} does not say which fields of a record it is for: take a weights file "
            "that was trained in a pipeline"
        )
    network = model.network
    if network.distribution.is_linear and other.network.distribution.is_linear:
        of = other.network
        network = replace(network, output=of.output, quantiles=of.quantiles)
        model = replace(model, network=network)
    return _with(model, columns=other.columns, scaler=other.scaler)


def _with(model: Model, columns: Columns, **more: Any) -> Model:
    """Return the model with these columns: its outputs are those of all their horizons."""
    network: Network = model.network
    horizons = len(columns.horizons)
    if network.distribution.activation.joint and network.horizons != horizons:
        raise ConfigurationError(
            f"its {network.output} is over all outputs of {network.horizons} horizons, the "
            f"columns name {horizons}"
        )
    return replace(model, network=replace(network, horizons=horizons), columns=columns, **more)


def _left_out(model: Model, path: str, written: str) -> Iterator[str]:
    """Yield what the file that was written does not hold of the model."""
    if written == WEIGHTS:
        if model.scaler is None:
            yield f"{path} holds no scaler: the network sees the fields as they are"
        return
    if model.columns is not None:
        seen = ", ".join(model.columns.input_names)
        yield f"{path} cannot hold the columns: what it takes is {seen}, in this order"
        yield f"what it gives is {', '.join(model.output_names)}"
    if model.scaler is not None:
        yield (
            f"{path} cannot hold the scaler: what it takes must be scaled as in training, what it "
            "gives is scaled"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr)
