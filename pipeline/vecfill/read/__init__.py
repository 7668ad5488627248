"""The read stage: splits the target into units, and reads each unit into a TextBlock."""
