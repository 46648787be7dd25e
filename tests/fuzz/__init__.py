"""Schemas and writes that Hypothesis draws, and the whole chain on them: equality, or a preflight failure that names its cause.

`test_fuzz.py` plays the corpus and a fixed seed in `make test`; `make fuzz` (`__main__.py`) goes on for an hour and keeps what it finds as SQL.
"""
