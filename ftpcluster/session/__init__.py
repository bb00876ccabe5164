"""The core: one control connection, from its greeting to its end, and its data connections.

It must not know processes, the supervisor, the configuration file, or the library's API in
``compat``. It reaches limits through ``Quotas``, files through ``Storage``, and code of a
program that embeds it through ``SessionHooks``.
"""
