"""A long-lived worker that keeps the vectors of one or several targets up to date."""
