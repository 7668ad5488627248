"""What all local models share on a device: its type, threads and memory, batches of tokens, and the loop over them."""
