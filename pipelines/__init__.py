"""Pipelines to run as they are, or to copy: each module's docstring is its command."""

import logging

# On import, Beam warns of Google Cloud's client being absent. Nothing here needs it.
logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
