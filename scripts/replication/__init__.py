"""Changes flow both ways between the two databases, by PostgreSQL's own replication or by AWS DMS.

The door is `run` (start, status, wait, stop); beside it `fence` proves that everything written so far has arrived, `engine_of`
gives what carries the changes, and `writes` looks at the record of writes and prunes it. `documents` is what is printed.
"""
