"""What is wrong with a set-up, and what to change: pure checks, one file a subject."""
