"""The metadata of the flex template: what it asks of those who run it, from the pipeline's flags.

    python -m deploy.dataflow.metadata > deploy/dataflow/metadata.json

The keys are those of Dataflow's TemplateMetadata and ParameterMetadata.
"""

import argparse
import json
from typing import Any

from pipelines import live

WHOLE, FRACTION = r"^\d+$", r"^\d+(\.\d+)?$"
MESSAGES = r"^(kafka://[^/]+/[^/]+|pubsub://projects/[^/]+/(topics|subscriptions)/[^/]+)$"
TOPIC = MESSAGES.replace("(topics|subscriptions)", "topics")
URLS = {"input": MESSAGES, "output": TOPIC, "rejected": TOPIC}


def metadata() -> dict[str, Any]:
    """The template as Dataflow's console shows it."""
    return {
        "name": "Forecasts of a stream, by a recurrent network",
        "description": "Messages of a topic in, a prediction for each into another one. "
        "The state of each key is carried by the job.",
        "streaming": True,
        "supportsExactlyOnce": True,
        # A record that comes twice is stepped once, unless --order is arrival.
        "supportsAtLeastOnce": True,
        "defaultStreamingMode": "EXACTLY_ONCE",
        "parameters": [
            parameter(flag)
            for flag in live.parser()._actions  # noqa: SLF001  # argparse has no other list
            if flag.dest != "help"
        ],
    }


def parameter(flag: argparse.Action) -> dict[str, Any]:
    """A flag as a parameter: what it is for, whether it may be left out, what it can be."""
    found = {
        "name": flag.dest,
        "label": flag.dest.replace("_", " ").capitalize(),
        "helpText": help_of(flag),
        "isOptional": not flag.required,
    }
    pattern = pattern_of(flag)
    return found if pattern is None else {**found, "regexes": [pattern]}


def help_of(flag: argparse.Action) -> str:
    """What a flag is for, and what it is if it is left out."""
    text = flag.help or f"one of {', '.join(map(str, flag.choices or ()))}"
    return text if flag.default is None else f"{text}; default: {flag.default}"


def pattern_of(flag: argparse.Action) -> str | None:
    """What a value must look like; None for any text."""
    if flag.choices is not None:
        return f"^({'|'.join(map(str, flag.choices))})$"
    if flag.type is int:
        return WHOLE
    return FRACTION if flag.type is float else URLS.get(flag.dest)


if __name__ == "__main__":
    print(json.dumps(metadata(), indent=2))
