"""How a model is named, found and told from another: its files, fingerprint and prompts. Imports no torch."""
