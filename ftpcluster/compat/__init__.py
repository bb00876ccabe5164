"""The reference's API, as a guest of the core: Server, verbs as methods, Connection, path layers.

It may use whatever the core offers to everybody; the core knows nothing of it.
"""
