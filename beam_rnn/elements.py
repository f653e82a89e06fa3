"""Fields of records and columns of results, for DoFns of your own beside the transforms."""

from beam_rnn.engine.order_arguments import ORDERS
from beam_rnn.records.field_values import MAX_KEY_BYTES, ROW, field, micros
from beam_rnn.records.result_columns import prediction_columns, prediction_values
from beam_rnn.records.results import INVALID
from beam_rnn.transforms.predict import MODEL_CHANGES

__all__ = [
    "INVALID",
    "MAX_KEY_BYTES",
    "MODEL_CHANGES",
    "ORDERS",
    "ROW",
    "field",
    "micros",
    "prediction_columns",
    "prediction_values",
]
