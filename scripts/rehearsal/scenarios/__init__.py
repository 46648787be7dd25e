"""What goes wrong on a night, brought about for real in a rehearsal at work: what the product makes of it, when, and what users saw.

`table.py` names each with what has to be seen; `night.py` is what they share; `judge.py` says, without I/O, whether the product reacted as
it should.
"""
