"""Downloads that finish: the files of a listing, from a source into a directory.

``fetching.fetch`` is the door. ``plan`` says what is missing, ``worker`` moves ranges of bytes,
``target`` writes one file, ``journal`` remembers what is on the disk for good, ``limits`` holds the
bounds that all downloads of a process share, ``promises`` the free space that each was promised.
"""
