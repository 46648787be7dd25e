"""The target's schema from the source's catalog, and the comparison of the two catalogs, which is also the watch against DDL.

`run.py` is the door; `statements.py` and `compare.py` are pure, `role.py` makes the Task Service's role and says what it may,
`ownership.py` whose the tables are, `password.py` finds the role's password.
"""
