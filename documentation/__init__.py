"""The reference pages, written from the code, and what the site needs beside its pages.

``python -m documentation`` (``make docs-reference``) writes into the pages of docs/ what stands
between two marks there; the words around the marks are people's. tests/docs asks that nothing has
to be written again.
"""
