"""The files of this machine, predicted in this process: `beam-rnn predict` without a pipeline."""

import argparse
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from beam_rnn.cli.block_orders import orders_of
from beam_rnn.cli.date_like_numbers import check_times, forms_in
from beam_rnn.cli.nothing_usable import check_usable
from beam_rnn.cli.order_text import Orders, say, say_unordered
from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_whole, micros
from beam_rnn.core.errors import record_text
from beam_rnn.core.filesystems import remove
from beam_rnn.data.columns import Columns
from beam_rnn.engine.order import Order
from beam_rnn.engine.order_arguments import order_of
from beam_rnn.engine.steppers.predict import Policy, PredictStepper
from beam_rnn.engine.table_prediction import Counts, OneModel, Predictions, step_block
from beam_rnn.files.formats import whole_suffix
from beam_rnn.files.read_blocks import FileRecords, read_blocks
from beam_rnn.files.refused import Refused, line_of, refused_of, said, with_datetime
from beam_rnn.files.row_writer import write_lines, write_table
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model_checks import check_streams
from beam_rnn.records.block_format import Block, encoded, one_after_another
from beam_rnn.records.result_columns import UTC, prediction_columns
from beam_rnn.records.results import InvalidRecord, LateRecord

logger = logging.getLogger(__name__)


def predict_files(args: argparse.Namespace, model: Models) -> int:
    """Predict the records of files, and write what comes out; return the number of predictions.

    Args:
        args: The flags of `beam-rnn predict`.
        model: The model.

    Raises:
        NothingUsableError: There is no record, or none that can be used.
    """
    check_streams(model, args.weights)
    assert model.columns is not None, "check_streams refuses a model without columns"
    idle_after = micros("idle_after", args.idle_after)
    rules = replace(order_of(args.order, args.wait, 1e-3), idle_after=idle_after)
    whole_suffix(args.output)
    if args.shards is not None:  # they are for a runner, and change no prediction
        check_whole("shards", args.shards)
    files = list(read_blocks(args.input, model.columns))
    letters = [letter for file in files for _, letter in file.letters]
    block = _joined(files)
    found, late, poisoned = _predicted(model, rules, block)
    aside = f"{args.output}.invalid.jsonl"
    refused = write_aside([*letters, *poisoned], aside, "could not be used")
    usable = check_usable(refused, sum(file.rows for file in files), args.input, aside)
    _say_order(files, block, model.columns)
    if model.columns.time is not None and model.columns.time_format is None:
        times = (time for file in files for time in file.times)
        check_times(usable, forms_in(times), model.columns.time, trained=True)
    table = _table(block, found, model)
    write_table(table, args.output)
    write_aside(late, f"{args.output}.late.jsonl", "were late")
    return int(table.num_rows)


def _joined(files: list[FileRecords]) -> Block:
    """Return the records of all files; `row` numbers them in order."""
    blocks = [file.block for file in files]
    used = [block for block in blocks if block.records] or blocks[:1]
    block = one_after_another(used)
    return block._replace(row=np.arange(block.records, dtype=np.int32))


def _predicted(
    model: Models, rules: Order, block: Block
) -> tuple[Predictions, list[LateRecord], list[InvalidRecord]]:
    """Step the records; return their predictions, late records, and those that overflow."""
    assert model.columns is not None, "it was checked"
    stepper = PredictStepper(OneModel(model), Policy(idle_after=rules.idle_after), Counts())
    found = Predictions(block.records, len(model.output_names))
    late: list[LateRecord] = []
    poisoned: list[InvalidRecord] = []
    unordered = 0
    for outcome, states in step_block(stepper, rules, block, model.columns.number_size):
        found.add(outcome, states)
        unordered += outcome.counts.get("records_out_of_order", 0)
        for row in outcome.rows:
            if isinstance(row.result, LateRecord):
                late.append(with_datetime(row.result))
            elif isinstance(row.result, InvalidRecord):
                poisoned.append(row.result)
    say_unordered(unordered)
    return found, late, poisoned


def _table(block: Block, found: Predictions, model: Models) -> pa.Table:
    """Return the predictions as the rows of a file, in the order of the records."""
    rows = np.flatnonzero(found.predicted)
    block = block.pick(rows)
    keys = pa.DictionaryArray.from_arrays(pa.array(block.of_key), pa.array(block.keys, pa.string()))
    names = ["key", "time", *prediction_columns(model.output_names)]
    return pa.table([keys, pa.array(block.time, UTC), *found.columns(rows)], names=names)


def write_aside(rows: list[Any], path: str, what: str) -> list[Refused]:
    """Write records that could not be used to a file, and log why; remove it if there are none."""
    refused = refused_of(rows)
    if rows:
        write_lines(map(line_of, rows), path)
    else:
        remove(path)
    for line in said(refused, what, path):
        logger.warning("%s", line)
    return refused


def _say_order(files: list[FileRecords], block: Block, columns: Columns) -> None:
    """Log the times of the records, and how many are equal or share a time."""
    if not block.records:
        return
    orders = orders_of(block)
    say(orders, _two_that_differ(files, block, orders), columns, trained=True)


def _two_that_differ(
    files: list[FileRecords], block: Block, orders: Orders
) -> tuple[str, ...] | None:
    """Return two records as text that are equal in what is read, but not in the rest."""
    texts: dict[tuple[str, bytes], set[str]] = {example: set() for example in orders.examples}
    if not texts:
        return None
    keys = {block.keys.index(key) for key, _ in texts}
    start = 0
    for file in files:
        here = block.pick(np.arange(start, start + file.block.records))
        start += file.block.records
        places = np.flatnonzero(np.isin(here.of_key, list(keys)))
        for example, row in _examples(file, here, places, texts):
            shown = {name: value for name, value in row.items() if name != "filename"}
            texts[example].add(record_text(shown))
    pairs = (tuple(sorted(texts[example])[:2]) for example in orders.examples)
    return next((pair for pair in pairs if len(pair) > 1), None)


def _examples(
    file: FileRecords, block: Block, places: Array, wanted: Iterable[tuple[str, bytes]]
) -> Iterator[tuple[tuple[str, bytes], dict[str, Any]]]:
    """Yield the rows of a file that hold one of some records, each with that record."""
    part = block.pick(places)
    wanted, data = set(wanted), encoded(part)
    named = [(part.keys[key], each) for key, each in zip(part.of_key.tolist(), data, strict=True)]
    chosen = [i for i, record in enumerate(named) if record in wanted]
    rows = file.block.row[places[chosen]]
    yield from zip([named[i] for i in chosen], file.as_dicts(rows), strict=True)
