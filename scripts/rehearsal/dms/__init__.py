"""A stand-in of AWS DMS: its API, and its tasks' data path on real PostgreSQL.

The door is `run`; `server` is the process that it starts, `standin` answers the API, `apply` does a task's work.
"""
