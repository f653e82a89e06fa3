"""The facts about the training, as a table."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from beam_rnn.core.text import counted, names, number, percent
from beam_rnn.models.model import Model
from beam_rnn.nn.cells import CELLS
from beam_rnn.nn.losses import LOSS_TITLES
from beam_rnn.report.charts.axes import date, utc
from beam_rnn.report.wording import ahead, text


def cell(model: Model) -> str:
    """Return the title of the cell."""
    return CELLS[model.network.cell].title or model.network.cell


def targets(model: Model) -> str:
    """Return the names of the targets."""
    columns = model.columns
    return f"{model.outputs} numbers" if columns is None else names(columns.targets)


def title(model: Model) -> str:
    """Return the title of the page."""
    horizon = "" if model.columns is None else f", {ahead(model.columns.horizons)}"
    return f"{cell(model)}: {targets(model)}{horizon}"


_CODE = ("optimiser", "digest")


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values as HTML."""

    def shown(name: str, value: str) -> str:
        return f"<code>{text(value)}</code>" if name in _CODE else text(value)

    lines = (f"<tr><th>{name}</th><td>{shown(name, value)}</td></tr>" for name, value in rows)
    return "\n".join(['<table class="facts">', *lines, "</table>"])


def facts(model: Model) -> Iterator[tuple[str, str]]:
    """Yield the facts about the network, the records and the training: names and values."""
    network, columns, training = model.network, model.columns, model.training
    settings: Mapping[str, Any] = training.get("settings", {})
    count = sum(value.size for value in model.parameters.values())
    sizes = " + ".join(map(str, network.sizes))
    parts = [f"{cell(model)}, {counted(network.layers, 'layer')} of {sizes} units"]
    parts += ["bidirectional"] if network.bidirectional else []
    parts += [] if network.carry else ["no carried state"]
    parts += ["residual: it predicts the change from the last value"] if network.residual else []
    yield "network", f"{'; '.join(parts)}; {counted(count, 'parameter')}, {model.dtype}"
    yield "output", _output(model)
    if columns is not None:
        yield "inputs", names(columns.input_names)
        yield "targets", f"{targets(model)}, {ahead(columns.horizons)}"
        time = "" if columns.time is None else f"; time: {columns.time}"
        yield "records", f"key: {columns.key}{time}"
    if "records" in training:
        until = training.get("until", {})
        sequences = counted(training.get("sequences", 0), "sequence")
        ends = f", the last of {date(utc(max(until.values())))}" if until else ""
        records = f"{counted(training['records'], 'record')} of {counted(len(until), 'key')}"
        yield "trained on", f"{records} in {sequences}{ends}"
    if settings:
        yield from _how(settings, training)
    yield from _losses(model)
    yield "digest", model.digest


def _output(model: Model) -> str:
    network = model.network
    what = network.distribution.title
    if model.columns is not None and model.columns.classes:
        what += f": {names(model.columns.classes)}"
    return f"{what}, after each sequence's last record" if network.output_steps == "last" else what


def _how(settings: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts about the training."""
    yield "back-propagation", _bptt(settings["bptt"])
    yield "optimiser", settings["optimizer"]
    kernel = f"seed {settings['seed']}, kernel {training.get('kernel', '-')}"
    yield "rounds", f"{_rounds(settings, training)}; {kernel}"
    if settings.get("validation"):
        patience = f", patience {settings['patience']}" if settings.get("patience") else ""
        share = f"the last {percent(settings['validation'])} of each key's steps{patience}"
        yield "validation set", share
    scaled = "none"
    if settings["scaler"] != "none":
        by = "by key" if settings["scaler"] == "per_key" else "over all keys"
        scaled = f"{settings.get('scaling', 'standard').replace('_', ' ')}, {by}"
    yield "scaling", scaled


def _bptt(bptt: Mapping[str, Any]) -> str:
    """Return the settings of the back-propagation, in words."""
    every = f", an update every {bptt['stride']}" if bptt["stride"] else ""
    steps = "whole sequences" if bptt["steps"] is None else f"k = {bptt['steps']} steps{every}"
    outputs = "last step" if bptt["loss"] == "last" else "outputs of all steps"
    return f"through {steps}, the loss from the {outputs}"


def _rounds(settings: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Return the numbers of epochs and shards, in words."""
    epochs = counted(len(training.get("loss_curve", ())), "epoch")
    how = f"{epochs} of batches of {settings['batch_size']}"
    rounds = training.get("rounds")
    if not rounds:
        return how
    local = rounds["local_epochs"]
    every = "epoch" if local == 1 else counted(local, "epoch")
    outer = f" by {rounds['outer']}" if rounds["outer"] else ""
    return f"{how}; {counted(rounds['shards'], 'shard')}, averaged after every {every}{outer}"


def loss_name(model: Model) -> str:
    """Return the name of the loss, and whether it is of scaled targets."""
    settings = model.training.get("settings", {})
    loss = settings.get("loss", "loss")
    scaled = model.network.distribution.scaled and settings.get("scaler") != "none"
    return LOSS_TITLES.get(loss, loss) + (", of scaled targets" if scaled else "")


def _losses(model: Model) -> Iterator[tuple[str, str]]:
    """Yield the losses of the last epoch and of the best one."""
    training = model.training
    curve = training.get("loss_curve") or []
    if not curve:
        return
    validation = training.get("validation_curve") or []
    line = f"{number(curve[-1])} in the last epoch"
    if validation:
        best = best_of(validation)
        line += f"; validation {number(validation[-1])}, lowest {number(validation[best])}"
    yield "loss", f"{loss_name(model)}: {line}"


def bptt_steps(model: Model) -> int | None:
    """Return the k of BPTT; None for whole sequences, or if it is not known."""
    steps: int | None = model.training.get("settings", {}).get("bptt", {}).get("steps")
    return steps


def best_of(curve: list[float]) -> int:
    """Return the index of the lowest loss, ignoring NaN."""
    return int(np.argmin(np.nan_to_num(curve, nan=np.inf)))
