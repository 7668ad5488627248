"""Texts to token ids: by the library's tokenizer or a faster one that proves itself, and long texts in windows."""
