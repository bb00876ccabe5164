"""The commands: one table, and one module of handlers per group."""
