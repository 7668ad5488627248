"""``vecfill doctor``: the health of a target, on one page. Each group of checks is a file; ``doctor`` makes all."""
