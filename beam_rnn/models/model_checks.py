"""What a model must be able to do, by the transform that uses it, and its first step."""

from collections.abc import Callable

import numpy as np

from beam_rnn.core.errors import WeightsError
from beam_rnn.models.keyed_models import KeyedModels, Models

Check = Callable[[Models, str], None]
"""Raises a `WeightsError` for a model, from a path, that cannot do what is asked of it."""


def check_reads(model: Models, path: str) -> None:
    """Check that a model can read records.

    Raises:
        WeightsError: It names no columns.
    """
    if model.columns is None:
        raise WeightsError(
            f"{path!r} names no columns, so no record can be read for it: train it in a "
            "pipeline, or give the model columns before it is written"
        )


def check_streams(model: Models, path: str) -> None:
    """Check that a model can step the records of a stream.

    Raises:
        WeightsError: It names no columns, or its network is bidirectional.
    """
    check_reads(model, path)
    if model.network.bidirectional:
        raise WeightsError(
            f"{path!r} holds a bidirectional network, which needs whole sequences: use "
            "PredictSequences, which has them, or Smooth, which waits for some more steps; only a "
            "network with bidirectional=False can step a stream at once"
        )


def check_smooths(model: Models, path: str) -> None:
    """Check that a model uses future steps.

    Raises:
        WeightsError: It names no columns, its network has one direction, or one output a
            sequence.
    """
    check_reads(model, path)
    if not model.network.bidirectional:
        raise WeightsError(
            f"{path!r} holds a network with bidirectional=False, which does not use future steps: "
            "Predict gives the same outputs without a lag"
        )
    if model.network.output_steps == "last":
        raise WeightsError(
            f"{path!r} holds a network with output_steps='last', which has one output for a "
            "whole sequence: use PredictSequences"
        )


def check_same_records(before: Models, model: Models, path: str) -> None:
    """Check that a model reads the same records as the one before it.

    Raises:
        WeightsError: It reads other fields.
    """
    assert before.columns is not None, "a model without columns is refused"
    assert model.columns is not None, "a model without columns is refused"
    if model.columns.fingerprint != before.columns.fingerprint:
        raise WeightsError(
            f"{path!r} reads {model.columns}, the model before it {before.columns}: a model that "
            "follows in a running stream reads the same fields"
        )


def warm_up(models: Models) -> None:
    """Make one step, so that kernels are compiled before the first record."""
    model = models.any if isinstance(models, KeyedModels) else models
    with np.errstate(all="ignore"):
        model.forward(np.zeros((1, 1, model.inputs - model.carried), model.dtype))
