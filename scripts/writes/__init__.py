"""The record of writes: what every local write of a configured table leaves, and what is done with one that arrives.

The doors are `install` (triggers and functions of a side, put there and taken away) and `record` (names of the tables). `capture` and
`apply` write the PL/pgSQL of a table, from what `relations` reads in the catalog. docs/architecture.md says what decides.
"""
