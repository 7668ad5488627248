"""What the database remembers of a tracked target: where its vectors come from, what changed, what failed, who runs."""
