"""Mutation testing of the decision code (docs/testing.md): small faults put in one at a time, each of which a test has to notice."""
