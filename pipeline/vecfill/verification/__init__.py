"""``vecfill verify``: compares stored vectors with vectors made again from the same texts."""
