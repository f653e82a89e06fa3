"""Records as Arrow batches and back, for tests that compare them with rows."""

import numpy as np
import pyarrow as pa

from beam_rnn import Prediction

KINDS = {"table": pa.Table, "record batch": pa.RecordBatch}


def batch_of(records, kind=pa.Table, schema=None):
    return kind.from_pylist(records, schema=schema)


def predictions_in(batches, columns, outputs):
    """Return the results as rows, as for an input of rows."""
    rows = []
    for batch in batches:
        for row in batch.to_pylist():
            state = row.get("prediction_state")
            time = row[columns.time]
            rows.append(
                Prediction(
                    row[columns.key],
                    round(time * 1e6),
                    row["prediction_step"],
                    [row[f"{name}_prediction"] for name in outputs],
                    row["prediction_model"],
                    b"" if state is None else np.array(state, np.float32).tobytes(),
                    row[columns.sequence] if columns.sequence else 0,
                    row["prediction_kernel"],
                )
            )
    return rows
