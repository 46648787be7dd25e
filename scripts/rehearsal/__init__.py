"""The whole plan on one machine: real PostgreSQL, emulated AWS, live load, the real commands; nobody below knows it.

The door is :mod:`scripts.rehearsal.run`; `testbed` is what it happens in, `steps` and `drill` are what is done there,
`criteria` and `report` what is made of it. `stage` is what the canary commands act on meanwhile.
"""
