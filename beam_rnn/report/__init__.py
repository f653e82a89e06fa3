"""The report of a training: one page of HTML that refers to nothing outside itself.

What was trained and on what, the loss curve, how far back the gradient reaches, forecasts beside
what came, and how the page was made. It has two forms of each chart, for wide screens and narrow
ones, and nothing on it depends on when or where it was made.
"""

from beam_rnn.report.page import page, report

__all__ = ["page", "report"]
