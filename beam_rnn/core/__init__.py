"""Utilities that every package uses: errors, checks, arrays, text."""
