"""The page at ``/``: four views of what is known and decided, made on the server.

Each view makes the rows of one page out of thousands and hands them to a template. Nothing here is
asked by a verb, and nothing here changes anything.
"""
