"""Tests of what is installed, and of what must not be committed."""
