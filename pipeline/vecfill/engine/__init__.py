"""Engines connect the three stages. ``inline`` runs them in this process, ``ray`` on a Ray cluster."""
