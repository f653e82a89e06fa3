"""The report of a training: one page of HTML that refers to nothing outside itself.

It shows forecasts and true values, errors, what was trained on which data, the loss curve, how far
back the gradient reaches, and the command. Each chart is drawn for wide and for narrow screens. The
same input gives the same page, whenever and wherever it is made.
"""

from beam_rnn.report.page import page, report

__all__ = ["page", "report"]
