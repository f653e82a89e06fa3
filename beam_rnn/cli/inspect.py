r"""Show what a weights file holds: network, columns, scaler, training, parameters.

    beam-rnn inspect weights.arrow
    beam-rnn inspect weights.arrow --key pump-1

The gradient horizon is the number of steps back after which less than 1 % of a gradient is left,
here on standard normal inputs; `beam-rnn report` measures it on records. --key chooses the model of
a file with a model for each key. --json prints all but the parameters as one JSON object.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from beam_rnn.cli import flags
from beam_rnn.cli.console import quoted, table
from beam_rnn.cli.output_paths import check_outputs
from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.text import counted, names, number
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.model import Model
from beam_rnn.models.transducer import Transducer
from beam_rnn.report.sections.training_curves import carries_forward
from beam_rnn.report.sections.training_facts import facts, title
from beam_rnn.training.gradient_horizon import REACHED, gradient_horizon
from beam_rnn.training.model_files import newest, read_model

STEPS = 256
"""The number of steps back that the gradient is followed."""
SHOWN_KEYS = 12


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = flags.parser("inspect", __doc__)
    parser.add_argument("weights", help="the weights file, or a checkpoint, or a pattern")
    parser.add_argument(
        "--key", help="the key whose model to show, of a file with a model for each key"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def description(model: Any, path: str, key: str | None = None) -> Iterator[str]:
    """Yield the description of a weights file, line by line.

    Args:
        model: The model, or the models, of the file.
        path: The file.
        key: The key whose model to show, of a file with many.

    Raises:
        ConfigurationError: The key has no model, or the file is not of many.
    """
    if isinstance(model, KeyedModels):
        yield from _of_many(model, path)
        if key is None:
            return
        yield ""
    if key is not None:
        models, model = model, of_key(model, path, key)
        if key in models.models:
            path = f"{path}, the model of {quoted(key)}"
        else:
            yield f"{key!r} has no model of its own{_why(models, key)}: this is the fallback"
            yield ""
            path = f"{path}, the fallback"
    if isinstance(model, Transducer):
        yield from _of_pairs(model, path)
    else:
        yield from _of_one(model, path)
    yield ""
    yield from table(
        [
            ("parameter", "shape", "mean", "deviation", "least", "greatest"),
            *map(_parameter, model.parameters, model.parameters.values()),
        ]
    )


def of_key(model: Any, path: str, key: str) -> Model:
    """Return the model of a key.

    Raises:
        ConfigurationError: There is none, or the file is not of many.
    """
    if not isinstance(model, KeyedModels):
        raise ConfigurationError(f"--key={key!r}: {path!r} holds one model for all keys")
    of_it = model.of(key)
    if of_it is None:
        why = model.reasons.get(key, "training did not see it")
        raise ConfigurationError(f"--key={key!r} has no model in {path!r}: {why}")
    return of_it


def _why(models: KeyedModels, key: str) -> str:
    return f" ({models.reasons[key]})" if key in models.reasons else ""


def _of_many(models: KeyedModels, path: str) -> Iterator[str]:
    yield f"{path}: {counted(len(models.models), 'model')}, each of a key"
    yield ""
    rest = "none: their records are dead letters"
    if models.fallback is not None:
        rest = f"the model with digest {models.fallback.digest}"
    rows = [
        ("network", json.dumps(models.network.to_json())),
        ("records", f"key: {models.columns.key}; inputs: {names(models.columns.input_names)}"),
        ("keys", names(map(quoted, sorted(models.models)), SHOWN_KEYS)),
        ("other keys", rest),
        *((f"no model of {quoted(key)}", why) for key, why in sorted(models.reasons.items())),
        ("digest", models.digest),
    ]
    yield from table(rows[: SHOWN_KEYS + len(rows) - len(models.reasons)])


def _of_pairs(model: Transducer, path: str) -> Iterator[str]:
    sources, targets = model.columns.vocabulary_sizes
    yield f"{path}: encoder-decoder, {model.columns.source} to {model.columns.target}"
    yield ""
    yield from table(
        [
            ("network", json.dumps(model.network.to_json())),
            ("records", f"key: {model.columns.key}"),
            ("symbols", f"{sources - 1} of the source, {targets - 1} of the target"),
            ("kernel", model.kernel),
            ("digest", model.digest),
        ]
    )


def _of_one(model: Model, path: str) -> Iterator[str]:
    yield f"{path}: {title(model)}"
    yield ""
    rows = list(facts(model))
    rows[-1:-1] = [("gradient horizon", reach(model))]
    yield from table(rows)
    yield ""
    yield from table(_scales(model))


def reach(model: Model) -> str:
    """Return how far back a gradient reaches, on standard normal inputs."""
    if not carries_forward(model):
        return "not measured: no state that one direction carries forward"
    if model.columns is not None and model.columns.symbols:
        return "not measured: its inputs are symbols, beam-rnn report measures it on records"
    chance = np.random.default_rng(0)
    x = chance.standard_normal((4, STEPS + 64, model.inputs))
    measured = gradient_horizon(model, x, STEPS)
    if not np.isfinite(measured.norms).all():
        return "not measured: a gradient is not finite"
    if (measured.norms < REACHED).any():
        return f"less than 1 % is left after {counted(measured.recommended_steps, 'step')}"
    return f"{measured.norms[-1]:.2g} of it is left after {STEPS} steps"


def _scales(model: Model) -> Iterator[Sequence[str]]:
    """Yield the center and the scale of each input and target."""
    if model.scaler is None:
        return
    of_all, columns = model.scaler.default, model.columns
    keys = counted(len(model.scaler.keys), "key")
    yield "scaler", "center", "scale", f"of all records; {keys} with numbers of their own"
    for what, center, scale in (
        ("input", of_all.inputs_center, of_all.inputs_scale),
        ("target", of_all.targets_center, of_all.targets_scale),
    ):
        of_columns: Sequence[str] = ()
        if columns is not None:
            of_columns = columns.input_names if what == "input" else columns.target_names
        for i in range(len(center)):
            name = of_columns[i] if i < len(of_columns) else str(i)
            yield f"{what} {name}", f"{center[i]:.6g}", f"{scale[i]:.6g}"


def _parameter(name: str, value: Array) -> Sequence[str]:
    of_all = value.mean(), value.std(), value.min(), value.max()
    return name, " x ".join(map(str, value.shape)), *(number(float(each)) for each in of_all)


def as_json(model: Any) -> Mapping[str, Any]:
    """Return all but the numbers of the parameters, as JSON values."""
    if isinstance(model, KeyedModels):
        return {
            "network": model.network.to_json(),
            "columns": model.columns.to_json(),
            "models": dict(model.digests),
            "fallback": model.fallback and model.fallback.digest,
            "reasons": dict(model.reasons),
            "digest": model.digest,
        }
    shapes = {name: list(value.shape) for name, value in model.parameters.items()}
    training = dict(model.training)
    return {**model.to_json(), "training": training, "parameters": shapes, "digest": model.digest}


def main(argv: Sequence[str] | None = None) -> None:
    """Show the file."""
    args = parse(argv)
    check_outputs({"weights": args.weights}, {})
    args.weights = newest(args.weights)
    model = read_model(args.weights)
    if args.json:
        shown = model if args.key is None else of_key(model, args.weights, args.key)
        print(json.dumps(as_json(shown)))
        return
    for line in description(model, args.weights, args.key):
        print(line)
