"""Before step 1: everything that would stop the migration half-way, looked for while nothing has been changed.

`run.py` is the door; each other module makes the checks of one kind. What a step will do is tried and rolled back (docs/decisions.md,
'preflight tries what it can').
"""
