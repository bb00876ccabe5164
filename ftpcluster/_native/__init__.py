"""Compiled forms of functions that are called for each entry of a directory.

They are optional. Each has a twin, a function in Python that does the same. The twin is in the
package where it belongs, and has the documentation. These modules may import their twins, and
nothing else of this package. ``ftpcluster/native.py`` decides which of both run.
"""
