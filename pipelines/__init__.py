"""Pipelines to run as they are, or to copy: each module's docstring is its command."""
