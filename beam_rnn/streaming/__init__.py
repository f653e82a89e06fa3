"""The keys of a shard, stepped together: fast where keys or records are many.

A bundle's records become blocks, one for each shard (`blocks`). In memory a shard is a table of
hidden states (`table`) and the records that wait (`pending`), stepped as a matrix (`stepping`) by
the rules of order (`shard`). In Beam's state it is a log (`journal`); the DoFn stands between the
two (`stateful`). What comes out are rows or Arrow batches (`emission`).
"""
