"""Generate the metadata of the flex template from the pipeline's flags.

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
    """Return the metadata of the template, which Dataflow's console shows."""
    return {
        "name": "Predict a stream with a recurrent network",
        "description": "Reads messages from a topic and writes a prediction for each to another "
        "one. The job keeps the state of each key.",
        "streaming": True,
        "supportsExactlyOnce": True,
        # A duplicate record is ignored, unless --order is arrival.
        "supportsAtLeastOnce": True,
        "defaultStreamingMode": "EXACTLY_ONCE",
        "parameters": [
            parameter(flag)
            for flag in live.parser()._actions  # noqa: SLF001  # argparse has no other list
            if flag.dest != "help"
        ],
    }


def parameter(flag: argparse.Action) -> dict[str, Any]:
    """Return a flag as a parameter of the template."""
    found = {
        "name": flag.dest,
        "label": flag.dest.replace("_", " ").capitalize(),
        "helpText": help_of(flag),
        "isOptional": not flag.required,
    }
    pattern = pattern_of(flag)
    return found if pattern is None else {**found, "regexes": [pattern]}


def help_of(flag: argparse.Action) -> str:
    """Return the help text of a flag with its default."""
    text = flag.help or f"one of {', '.join(map(str, flag.choices or ()))}"
    return text if flag.default is None else f"{text}; default: {flag.default}"


def pattern_of(flag: argparse.Action) -> str | None:
    """Return the regular expression of valid values; None for any text."""
    if flag.choices is not None:
        return f"^({'|'.join(map(str, flag.choices))})$"
    if flag.type is int:
        return WHOLE
    return FRACTION if flag.type is float else URLS.get(flag.dest)


if __name__ == "__main__":
    print(json.dumps(metadata(), indent=2))
