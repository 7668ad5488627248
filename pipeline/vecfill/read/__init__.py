"""The read stage: page ranges of the target, and the reader that turns one into a TextBlock."""
