"""Local model or embedding API: both measured on the same rows; and apart from that what a model reckons."""
