"""Builds a real Kubernetes control plane for the tests, from pinned Go modules."""
