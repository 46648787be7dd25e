"""Tests of scripts/database."""
