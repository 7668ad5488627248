"""The write stage: makes COPY bytes from Arrow, and writes batches under compare-and-set."""
