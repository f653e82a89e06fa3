"""What the template's launcher runs: it starts `pipelines.live`, and does not wait for its end."""

from beam_rnn.cli.console import run
from pipelines import live


def start() -> None:
    """Hand the job to Dataflow."""
    live.main()


if __name__ == "__main__":
    run(start)
