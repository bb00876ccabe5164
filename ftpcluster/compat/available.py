"""aioftp's counter of connections."""

from __future__ import annotations


class AvailableConnections:
    """Semaphore-like, but never waits: crossing a bound raises ValueError. None has no bounds."""

    def __init__(self, value: int | None = None) -> None:
        self.value = self.maximum_value = value

    def locked(self) -> bool:
        """Whether there is nothing left to acquire."""
        return self.value == 0

    def acquire(self) -> None:
        """Take one; ValueError where none is left."""
        if self.value is not None:
            if self.value <= 0:
                raise ValueError("no connection is available")
            self.value -= 1

    def release(self) -> None:
        """Give one back; ValueError where none was taken."""
        if self.value is not None and self.maximum_value is not None:
            if self.value >= self.maximum_value:
                raise ValueError("no connection was acquired")
            self.value += 1
