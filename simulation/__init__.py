"""A cluster on a virtual clock around the real core: the engine of the simulation.

The parts: a ``Timeline`` (clock and event queue), an ``Apiserver`` with its watches, kube-scheduler
and kubelets as models, and the ``Extender``: the real state, reservations, verbs and waking. A
``World`` is made of them from a ``Scenario``; everything that happens by chance is drawn from
``Choices``, so that a run can be repeated, and shortened.
"""
