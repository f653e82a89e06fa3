"""The tasks of `benchmarks.accuracy`: one a module."""
