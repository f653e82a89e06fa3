"""The elements of a pipeline as checked numbers, their stored bytes, and the rows that come out."""
