"""Model-cache scheduler extender: inference pods start where their model already is."""

__version__ = "0.1.0"
