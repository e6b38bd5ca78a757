"""What is known of the cluster: inventory, memory ledger, claims, and one consistent view of it.

Events come in through ``state.ClusterState`` (one writer); verbs read ``view.View``. Pure: no I/O,
no clock of its own.
"""
