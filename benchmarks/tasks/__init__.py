"""The tasks of `benchmarks.accuracy`: a module per data set."""
