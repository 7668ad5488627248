"""A forward pass of our own for the models that most people run; see ``docs/encoder.md``.

It reads the model's own files and imports only torch, safetensors and tokenizers. It computes once it was proven equal
to sentence-transformers for a model, a device and a type; until then, and for every other model, the library computes.
"""
