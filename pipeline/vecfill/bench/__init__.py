"""Measuring: contenders side by side in one run, and the report of their figures.

Times on a shared machine mean nothing by themselves, so every figure that matters is a ratio within a round.
"""
