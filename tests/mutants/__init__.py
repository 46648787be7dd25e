"""Mutation testing of the decision code (docs/testing.md): small faults put in one at a time, each of which a test has to notice."""

#: In the environment: how many mutants there are at a time, and the directory of servers that stay as they were made (kept.py).
PLACE = "KEPT_SERVERS"
