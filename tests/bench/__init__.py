"""``python -m tests.bench``: how fast servers are on this machine, ours and those that are found.

docs/tuning.md ("Measuring") says how to read what it prints.
"""
