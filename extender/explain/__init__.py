"""Verdicts into words and documents, for people and for programs."""
