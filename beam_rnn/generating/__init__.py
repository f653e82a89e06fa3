"""Sequences that a model writes: it is given what it says of the next record as that record.

What of an output is an input again (`feedback`), chance that a seed, a key and a place decide alone
(`chance`), values drawn by what the network says of them (`drawing`), and sequences that go on step
by step (`generation`); on the Beam side prompts are gathered from records (`prompting`).
"""
