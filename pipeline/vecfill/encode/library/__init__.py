"""The pass of sentence-transformers: the reference for every other way, and the way of models that have no other."""
