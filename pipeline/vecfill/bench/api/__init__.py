"""Local model or embedding API: both measured on the same rows, and beside that, apart from it, what a model reckons."""
