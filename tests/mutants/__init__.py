"""Mutation testing of the decision code (docs/testing.md): small faults put in one at a time, each of which a test has to notice."""

#: In the environment: the directory of servers that stay as they were made (tests/mutants/kept.py).
PLACE = "KEPT_SERVERS"
