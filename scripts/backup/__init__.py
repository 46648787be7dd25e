"""Step 0: a backup of the whole source, which counts once it was restored and compared, and its way back.

`run.py` is the door; `store.py` is where it lies, `tools.py` runs PostgreSQL's client programs, `scratch.py` has somewhere to
restore into, `compare.py` says whether two databases hold the same.
"""
