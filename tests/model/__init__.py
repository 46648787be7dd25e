"""The protocol of replication both ways as pure functions, and a search of everything that can happen to it.

``world.py`` is the language: rows, writes, what a set of rules answers. ``recorded.py`` has the rules of the record of
writes, ``dated.py`` those that they replaced. ``search.py`` tries every order of writes, deliveries, kills and prunes and
asks ``judge.py`` in each state. No I/O.
"""
