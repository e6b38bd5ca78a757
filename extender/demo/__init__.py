"""The embedded cluster of ``make demo``: five nodes and the four ways to share model weights."""
