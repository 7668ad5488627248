"""The write stage: COPY bytes straight from Arrow, and the writer that lands them under compare-and-set."""
