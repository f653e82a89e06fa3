"""The expected results of `Smooth`: each window separately, layer by layer."""

from dataclasses import replace

import numpy as np

from beam_rnn.cells import project
from beam_rnn.data.missing_values import carry_through
from beam_rnn.nn.backprop import merge
from beam_rnn.testing import oracle


def by_definition(model, x, lag):
    """The outputs of a sequence: that of t from a pass over t, ..., t + lag.

    The forward direction of each layer begins where it was after t - 1 in the pass for t - 1; the
    backward one at its initial state.
    """
    network, parameters = model.network, model.parameters
    each = network.step_cell.states
    begins = [network.before_first_step(parameters, i, 1) for i in range(network.layers)]
    before = [begin[:each] for begin in begins]
    if model.carried:
        x = carry_through(x, model.carried).astype(np.float32)
    outputs = []
    for t in range(len(x)):
        h = window = x[t : t + lag + 1]
        for i, begin in enumerate(begins):
            forward, backward = network.layer(parameters, i)
            states = _states(network.step_cell, forward, before[i], h)
            turned = _states(network.step_cell, backward, begin[each:], h[::-1])[::-1]
            before[i] = states[0]
            directions = ([state[0] for state in run] for run in (states, turned))
            h = merge(network.merge, [np.array(run) for run in directions])[:, 0]
        z = network.read_out(parameters, h[:1], window[:1])
        outputs.append(network.output_of(z)[0])
    return np.array(outputs)


def _states(cell, p, state, x):
    """The state after each row."""
    states = []
    for row in x:
        state, _ = cell.forward(p, state, project(p, row[np.newaxis]))
        states.append(state)
    return states


def expected(model, records, lag, idle_after=None, order="event_time"):
    """The predictions and the ended sequences, by the numpy kernel.

    Where sequences begin and end, a network of one direction says too: the oracle of `Predict`.
    """
    one_way = replace(model.network, bidirectional=False, merge="concat")
    inputs, outputs = model.inputs, model.outputs
    steps = type(model)(
        one_way, one_way.initialize(inputs, outputs, 0), model.columns, model.scaler
    )
    places = oracle(steps, records, order=order, idle_after=idle_after)
    of_record = {}
    for record in records:
        of_record[record["id"], round(record["t"] * 1e6)] = [record[n] for n in ("x", "y")]
    predictions, ended, at = [], [], 0
    for end in places.ended:
        rows = places.predictions[at : at + end.steps]
        at += end.steps
        numbers = np.array([of_record[row.key, row.time] for row in rows], float)
        x = model.scaled(end.key, numbers).astype(np.float32)
        said = model.restored(end.key, by_definition(model, x, lag)).tolist()
        facts = {"model": model.digest, "kernel": "numpy"}
        predictions += [row._replace(outputs=y, **facts) for row, y in zip(rows, said, strict=True)]
        ended.append(end._replace(outputs=said[-1], **facts))
    return predictions, ended
