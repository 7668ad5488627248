"""Local model or embedding API: both measured on the same rows; cost and time at any size modelled from that."""
