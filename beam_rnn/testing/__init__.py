"""Helpers for your tests of cells and of pipelines with `Predict`.

- `check_cell` and `CELL_CHECKS`: checks that a custom cell fulfils the contract of the library.
- `oracle`: the expected results of `Predict`, computed by a plain loop; `equal_rows`: a matcher for
  Beam's `assert_that`.
"""

from beam_rnn.testing.cell_checks import CELL_CHECKS, check_cell, projection_error
from beam_rnn.testing.oracle import Expected, equal_rows, oracle

__all__ = ["CELL_CHECKS", "Expected", "check_cell", "equal_rows", "oracle", "projection_error"]
