"""Indexes that vecfill builds: of a new column, or again on the column of a run."""
