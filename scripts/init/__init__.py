"""A stack's file, written: one template with its comments (:mod:`layout`), filled from the account."""
