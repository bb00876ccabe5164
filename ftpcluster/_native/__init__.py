"""Compiled twins of functions that are called for each command, or each entry of a directory.

They are optional: each has a twin in Python, in the package where it belongs, which says what it
does. They know nothing of this package but those twins. ``ftpcluster/native.py`` chooses.
"""
