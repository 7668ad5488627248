"""The plan of a run: what it would take, how long, at what cost, and what prevents it. Nothing is written."""
