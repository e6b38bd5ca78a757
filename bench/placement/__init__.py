"""The placement benchmark: time to start under this extender and under what others do.

A discrete-event simulation of a cluster that serves models from node caches. Machines, disks, page
caches, the network and engines are models (``hardware``, ``flows``, ``machine``); the extender is
the real one (``core``): its state, its verbs and its reservations, told by watches as in
``simulation``. Others are scoring functions after their sources (``rivals``).
"""
