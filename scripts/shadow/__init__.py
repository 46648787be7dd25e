"""Shadow reads: both sides asked the same before the first user, their answers compared. Door: :mod:`run`; :mod:`compare` is pure."""
