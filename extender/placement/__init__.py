"""Where a pod should go: verdicts (can it run there), estimated start, and score. Pure functions.

Reads a ``cluster.view.View`` and a ``workload.model.Workload``; knows no protocol and no transport.
"""
