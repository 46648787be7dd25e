"""Step 1: the initial copy, under the snapshot that the replication slot exported.

`run.py` is the door. `plan.py` decides what comes when, `workers.py` do it; `stream.py` moves rows, `build.py` makes what comes after
them, `slot.py` and `state.py` are the slot and what an earlier run left. `slot.py` serves preflight and replication as well.
"""
