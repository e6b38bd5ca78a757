"""Whether a directory holds a whole, undamaged model, and how that is known.

``verify`` climbs a ladder of checks, each dearer than the one before, and returns a ``Verdict``.
``marker`` keeps what was proven beside the model, ``rereading`` reads published models again.
"""
