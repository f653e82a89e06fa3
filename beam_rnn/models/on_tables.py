"""What a model does with tables, without a pipeline: the methods of `Model` and `KeyedModels`.

They are the engine's; it is imported when one is called.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from beam_rnn.engine.session import Session


class OnTables:
    """Predicts the records of tables, and makes sessions."""

    def predict(
        self,
        data: Any,
        *,
        order: str = "event_time",
        idle_after: float | None = None,
        max_jump: int | None = None,
        invalid: str = "error",
    ) -> "pa.Table":
        """Return a table with the prediction of each of its records, without a pipeline.

        The predictions have the same bits as those of the transform `Predict` over the same
        records. The columns are added behind those of the table, as
        `beam_rnn.prediction_schema` says. Of equal records the first one has the prediction;
        it is null for the others, and for late records.

            >>> from beam_rnn import Columns, Model, Network
            >>> network = Network("gru", hidden=4)
            >>> columns = Columns(key="pump", time="at", inputs=["load"], targets=["load"])
            >>> model = Model(network, network.initialize(1, 1, seed=0), columns)
            >>> found = model.predict({"pump": ["a", "b"], "at": [0, 0], "load": [0.5, 0.25]})
            >>> found.column_names[3:]
            ['load_prediction', 'prediction_step', 'prediction_model', 'prediction_kernel']

        Args:
            data: A table with the Arrow PyCapsule interface (of pyarrow, pandas, polars or DuckDB),
                a dict of columns, or a list of dicts. Its rows may be in any order; if the columns
                of the model name no time, they are in theirs.
            order: The order in which the records of a key are stepped: "event_time", "sequence"
                (by number), or "arrival" (that of the rows).
            idle_after: A sequence ends if the next record of its key is more than this number of
                seconds later; None for never.
            max_jump: As for `Predict`.
            invalid: "error": raise an error for the first record that cannot be used; "null": its
                prediction is null.

        Returns:
            A `pyarrow.Table`.

        Raises:
            RecordError: A record cannot be used.
            ConfigurationError: An argument of a wrong type or value, data that form no table, or a
                model that cannot step record by record.
        """
        from beam_rnn.engine.table_prediction import predict  # noqa: PLC0415

        settings: dict[str, Any] = {"idle_after": idle_after, "max_jump": max_jump}
        return predict(self, data, order=order, invalid=invalid, **settings)  # type: ignore[arg-type]

    def session(
        self,
        *,
        idle_after: float | None = None,
        states: str | os.PathLike[str] | None = None,
    ) -> "Session":
        """Return a `Session`, which steps records as they come: for a service of one's own.

        Args:
            idle_after: As for `predict`.
            states: A file of hidden states to start from, written by `Session.save` or by
                `ExportStates`.
        """
        from beam_rnn.engine.session import Session  # noqa: PLC0415

        return Session(self, idle_after=idle_after, states=states)  # type: ignore[arg-type]
