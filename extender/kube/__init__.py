"""Kubernetes objects as far as this program reads them, and the API's own arithmetic."""
