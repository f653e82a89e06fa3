"""The page: its sections, their order, and its style."""

from collections.abc import Iterable, Iterator

from beam_rnn.data.sequences import Sequence
from beam_rnn.models.model import Model
from beam_rnn.report.charts.svg import STYLE
from beam_rnn.report.evaluation import Excerpt, excerpt, score
from beam_rnn.report.scores import Summary, summarize
from beam_rnn.report.sections.calibration import calibration
from beam_rnn.report.sections.error_by_horizon import errors_by_horizon
from beam_rnn.report.sections.error_by_key import errors_by_key
from beam_rnn.report.sections.forecasts import classes, forecasts, main_figure
from beam_rnn.report.sections.record_counts import Counts, records
from beam_rnn.report.sections.training_curves import gradient_reach, loss_curve
from beam_rnn.report.sections.training_facts import facts, table, title
from beam_rnn.report.wording import text


def report(
    model: Model,
    sequences: Iterable[Sequence],
    command: str = "",
    counts: Counts | None = None,
) -> str:
    """Return the report of a model as an HTML page.

        >>> import numpy as np
        >>> from beam_rnn.data.columns import Columns
        >>> from beam_rnn.training.fit import fit_sequences
        >>> from beam_rnn.nn.network import Network
        >>> from beam_rnn.training.settings import Training
        >>> values, times = np.sin(np.arange(81) / 3)[:, np.newaxis], np.arange(80) * 1_000_000
        >>> columns = Columns(key="id", time="t", inputs=["load"])
        >>> whole = Sequence(columns, "a", times, values[:-1], values[1:], 80_000_000)
        >>> first = whole._replace(
        ...     times=times[:50], inputs=values[:50], targets=values[1:51], until=50_000_000
        ... )
        >>> model = fit_sequences(Network("gru", hidden=4), [first], Training(epochs=2))
        >>> report(model, [whole]).startswith("<!DOCTYPE html>")
        True

    Args:
        model: The model.
        sequences: All records of each key, in the training part and after it, in any order: the
            output of `Sequences(columns)`. They are held in memory.
        command: The command line, to show on the page.
        counts: The counts of the records, if they are known.
    """
    by_key: dict[str, list[Sequence]] = {}
    for sequence in sequences:
        by_key.setdefault(sequence.key, []).append(sequence)
    summary = summarize(score(model, each) for each in by_key.values())
    shown = [] if summary is None else [each.key for _, each in summary.shown]
    return page(model, summary, [excerpt(model, by_key[key]) for key in shown], command, counts)


def page(
    model: Model,
    summary: Summary | None,
    excerpts: Iterable[Excerpt],
    command: str = "",
    counts: Counts | None = None,
) -> str:
    """Return the page, from the summary of all keys and the excerpts of some.

    Args:
        model: The model.
        summary: The scores of all keys; None if no key could be evaluated.
        excerpts: The excerpts of the keys of `summary.shown`, in any order.
        command: The command line, to show on the page.
        counts: The counts of the records, if they are known.
    """
    by_key = {each.key: each for each in excerpts}
    sections = [
        *heading(model, summary),
        *forecasts(model, summary, by_key),
        *errors_by_horizon(model, summary),
        *errors_by_key(model, summary),
        *classes(model, summary),
        *calibration(model, summary),
        *records(counts),
        "<h2>What was trained</h2>",
        table(facts(model)),
        *loss_curve(model),
        *gradient_reach(model, summary, by_key),
        *_command(command),
    ]
    return "\n".join([_HEAD.format(title=text(title(model)), style=_STYLE), *sections, _END])


_STYLE = f"""
{STYLE}
:root {{ color-scheme: light dark; --page: #ffffff; }}
@media (prefers-color-scheme: dark) {{ :root {{ --page: #14181d; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 24px 20px 48px; max-width: 960px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
h1 {{ font-size: 26px; line-height: 1.2; margin: 0 0 8px; }}
h2 {{ font-size: 19px; margin: 40px 0 8px; }}
h3 {{ font-size: 15px; margin: 28px 0 4px; }}
h3 .note {{ font-weight: normal; }}
p {{ margin: 6px 0 12px; max-width: 75ch; }}
p.lead {{ font-size: 17px; }}
.note {{ color: var(--soft); }}
table {{ border-collapse: collapse; width: 100%; margin: 12px 0; }}
th, td {{ padding: 5px 12px 5px 0; border-bottom: 1px solid var(--faint); text-align: left;
  vertical-align: top; font-weight: normal; }}
th {{ color: var(--soft); }}
table.facts th {{ width: 11em; }}
table.figures td + td, table.figures th + th {{ text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }}
table.figures td:last-child, table.figures th:last-child {{ padding-right: 0; }}
details {{ margin: 4px 0 12px; }}
summary {{ cursor: pointer; color: var(--soft); }}
.beside {{ display: flex; flex-wrap: wrap; gap: 8px 40px; align-items: flex-start; }}
.square {{ flex: 1 1 300px; max-width: 420px; }}
.beside table {{ flex: 1 1 260px; width: auto; max-width: 420px; }}
.narrow {{ max-width: 560px; }}
code, pre {{ font: 13px/1.5 ui-monospace, monospace; }}
pre {{ white-space: pre-wrap; padding: 12px; border: 1px solid var(--faint); border-radius: 6px; }}
.narrow {{ display: none; }}
@media (max-width: 720px) {{
  body {{ padding: 16px 14px 32px; }}
  .wide {{ display: none; }}
  .narrow {{ display: block; }}
  table.facts th, table.facts td {{ display: block; width: auto; }}
  table.facts th {{ border: 0; padding-bottom: 0; }}
  table.facts td {{ padding-top: 0; }}
}}
""".strip()

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>"""

_END = "</body>\n</html>\n"


def heading(model: Model, summary: Summary | None) -> Iterator[str]:
    """Yield the title and the main figure."""
    yield f"<h1>{text(title(model))}</h1>"
    diverged = model.training.get("diverged")
    if diverged:
        yield (
            f'<p class="lead"><strong>The training diverged:</strong> {text(diverged)}. These are '
            "the last good weights.</p>"
        )
    if summary is None:
        return
    yield f'<p class="lead">{" ".join(main_figure(model, summary))}</p>'


def _command(command: str) -> Iterator[str]:
    """Yield the command line."""
    if command:
        yield "<h2>How it was made</h2>"
        yield f"<pre>{text(command)}</pre>"
