"""Benchmarks: ``python -m bench --help``. Figures, never pass or fail; ``docs/performance.md``."""
