"""Imports Beam without its warning that Google Cloud's client is absent: nothing here needs it."""

import logging


def _needed(record: logging.LogRecord) -> bool:
    return "apitools not found" not in record.getMessage()


logging.getLogger().addFilter(_needed)
try:
    import apache_beam  # noqa: F401
finally:
    logging.getLogger().removeFilter(_needed)
