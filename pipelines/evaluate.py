r"""Evaluate a trained network on records that training has not seen: `beam-rnn evaluate`.

    python -m pipelines.evaluate --input 'pipelines/data/nab/*.csv' --weights weights.arrow \
        --output metrics.json

The pipeline (flags, graph, main) is in beam_rnn/cli/evaluate.py.
"""

from beam_rnn.cli import run
from beam_rnn.cli.evaluate import build, main, parse

__all__ = ["build", "main", "parse"]

if __name__ == "__main__":
    run(main)
