"""Pipelines to run as they are, or to copy: each module's docstring is its command."""

import logging

# Beam warns on import of Google Cloud's client, which nothing here needs.
logging.getLogger().setLevel(logging.ERROR)
