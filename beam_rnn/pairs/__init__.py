"""Pairs of sequences: an encoder reads one, a decoder writes another of any length."""
