"""Tables of other libraries as Arrow tables."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from beam_rnn.core.errors import ConfigurationError


def as_table(data: Any) -> pa.Table:
    """Return data as an Arrow table, without a copy where that is possible.

        >>> import numpy as np
        >>> as_table({"id": ["a", "b"], "x": np.array([0.5, 1.5])}).num_rows
        2

    Args:
        data: An object with the Arrow PyCapsule interface, as tables of pyarrow, pandas, polars and
            DuckDB have it; a dict of columns; or a list of dicts, one for each record.

    Raises:
        ConfigurationError: It is none of these, or its columns do not form a table.
    """
    try:
        if isinstance(data, pa.Table):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if isinstance(data, list):
            return pa.Table.from_pylist(data)
        if isinstance(data, Mapping) or hasattr(data, "__arrow_c_stream__"):
            return pa.table(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ConfigurationError(f"the data do not form a table: {error}") from error
    raise ConfigurationError(
        "data must be a table with the Arrow PyCapsule interface (of pyarrow, pandas, polars or "
        f"DuckDB), a dict of columns or a list of dicts, got {type(data).__name__}"
    )
