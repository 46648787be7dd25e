"""The contract of the 8 endpoints, on whichever side answers. Door: :mod:`check`; :mod:`shapes` says what a document must look like."""
