"""Step 3: every row of both sides compared while both take writes, differences repaired, a rollback proven row by row.

`run` is the door of `verify`; `rollback_proof` answers for the canary's readiness and its rollback; `hash` is what `backup`
makes its checksums with.
"""
