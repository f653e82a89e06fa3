"""Benchmarks: each prints a table of ratios to a peer in the same run, and writes JSON."""
