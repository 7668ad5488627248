"""``vecfill demo``: a job board of real listings, like the one that this project was born from."""
