"""Example pipelines to run or to copy: each module's docstring shows its command."""
