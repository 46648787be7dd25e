"""Speed and memory on two real PostgreSQL 16 servers, as ratios to peers of the same session: ``python -m tests.bench``."""
