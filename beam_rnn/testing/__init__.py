"""For tests of your own: of a cell, and of a pipeline that predicts.

- `check_cell` and `CELL_CHECKS`: whether a cell of yours keeps what the library promises of it.
- `oracle`: what `Predict` says of records, by a plain loop; `equal_rows`: a matcher for Beam's
  `assert_that`.
"""

from beam_rnn.testing.cell_checks import CELL_CHECKS, check_cell, projection_error
from beam_rnn.testing.oracle import Expected, equal_rows, oracle

__all__ = ["CELL_CHECKS", "Expected", "check_cell", "equal_rows", "oracle", "projection_error"]
