"""The ends of a migration: step 4, and the ways out that give an attempt up.

`finalize` closes the old tables and ends replication; `abandon` removes everything of ours, and empties the target where a
new attempt is to begin.
"""
