"""Pod spec -> what the pod needs: its models and where it would open them. Pure functions.

``references`` reads a pod, ``loaders`` a loader DaemonSet, ``jobs`` a Job that fills a claim.
"""
