"""``vecfill demo``: a job board of real listings, like the one that led to this project."""
