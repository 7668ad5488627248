"""Settings: each option is declared once, as a field of a spec; flags, environment, files and docs follow."""
