# cython: boundscheck=False, wraparound=False, nonecheck=True
"""What the poller and streams do for each event. The twin is ``net/watching.py``.

No call here waits, but for those that copy much: these release the interpreter's lock.
"""

import os
import select
from asyncio import CancelledError, InvalidStateError
from time import monotonic

from ftpcluster.net import watching as twin

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EEXIST, EINTR, errno
from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <string.h>
    #include <sys/epoll.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <unistd.h>

    static int change(int epoll, int operation, int fd, uint32_t events) {
        struct epoll_event event;
        memset(&event, 0, sizeof(event));
        event.events = events;
        event.data.fd = fd;
        return epoll_ctl(epoll, operation, fd, &event);
    }

    static int never_block(int fd) {
        int on = 1;
        return ioctl(fd, FIONBIO, &on);
    }
    """
    int change(int epoll, int operation, int fd, uint32_t events)
    int never_block(int fd)

cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
    union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epoll, epoll_event *events, int most, int milliseconds)

cdef extern from "sys/socket.h" nogil:
    enum:
        SOCK_NONBLOCK

cdef extern from "unistd.h" nogil:
    int close(int fd)
    ssize_t read(int fd, void *buffer, size_t size)
    ssize_t write(int fd, const void *buffer, size_t size)

cdef enum:
    READ = EPOLLIN
    WRITE = EPOLLOUT
    FAILURE = EPOLLERR
    BROKEN = EPOLLERR | EPOLLHUP
    ROUNDS = 8
    EVENTS_PER_ROUND = 16
    SMALL = 4096  # bytes that are read at once into the stack
    MUCH = 16384  # bytes that are copied without the interpreter's lock

cdef double TURN = twin.TURN


# ---------------------------------------------------------------------- waiting


cdef class Readiness:
    """A future without a result."""

    cdef object _loop
    cdef public bint _asyncio_future_blocking
    cdef list callbacks
    cdef bint is_done
    cdef bint is_cancelled

    def __init__(self, loop):
        self._loop = loop

    cdef int succeed(self) except -1:
        cdef list callbacks = self.callbacks
        self.is_done = True
        self.callbacks = None
        if callbacks is not None:
            for callback, context in callbacks:
                if context is None:
                    callback(self)
                else:
                    context.run(callback, self)
        return 0

    def set_result(self, _):
        self.succeed()

    def cancel(self, msg=None):
        cdef list callbacks = self.callbacks
        if self.is_done:
            return False
        self.is_done = self.is_cancelled = True
        self.callbacks = None
        if callbacks is not None:
            for callback, context in callbacks:
                self._loop.call_soon(callback, self, context=context)
        return True

    def add_done_callback(self, callback, *, context=None):
        if self.is_done:
            self._loop.call_soon(callback, self, context=context)
        elif self.callbacks is None:
            self.callbacks = [(callback, context)]
        else:
            self.callbacks.append((callback, context))

    def remove_done_callback(self, callback):
        if self.callbacks is None:
            return 0
        kept = [each for each in self.callbacks if each[0] != callback]
        removed = len(self.callbacks) - len(kept)
        self.callbacks = kept
        return removed

    def done(self):
        return self.is_done

    def cancelled(self):
        return self.is_cancelled

    def exception(self):
        self.check()

    def result(self):
        self.check()

    cdef int check(self) except -1:
        if self.is_cancelled:
            raise CancelledError
        if not self.is_done:
            raise InvalidStateError("the stream is not ready")
        return 0

    def get_loop(self):
        return self._loop

    def __await__(self):
        cdef Wait wait = Wait.__new__(Wait)
        wait.waiter = self
        return wait


cdef class Wait:
    """One ``await`` of a Readiness."""

    cdef Readiness waiter
    cdef bint has_begun

    def __iter__(self):
        return self

    def __next__(self):
        cdef Readiness waiter = self.waiter
        if not self.has_begun and not waiter.is_done:
            self.has_begun = True
            waiter._asyncio_future_blocking = True
            return waiter
        waiter.check()
        raise StopIteration


# ---------------------------------------------------------------------- the poller


cdef class Watching:
    """The epoll of a Poller."""

    cdef readonly object _loop
    cdef readonly dict _watchers
    cdef public double _ends
    cdef object epoll  # it closes the descriptor, whatever becomes of this object
    cdef int number

    def __cinit__(self):
        self.number = -1
        self._watchers = {}

    def __init__(self, loop):
        if self.epoll is not None:
            raise RuntimeError("a poller is made once")
        self.epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self.number = self.epoll.fileno()
        self._loop = loop
        loop.add_reader(self.number, self._on_ready)

    def add(self, int fd, uint32_t events, watcher):
        self.begin(fd, events, watcher)

    cdef int begin(self, int fd, uint32_t events, watcher) except -1:
        self.check(fd)
        if change(self.number, EPOLL_CTL_ADD, fd, events) != 0:
            if errno != EEXIST:
                PyErr_SetFromErrno(OSError)
            self.alter(fd, events)
        self._watchers[fd] = watcher
        return 0

    def modify(self, int fd, uint32_t events):
        self.alter(fd, events)

    cdef int alter(self, int fd, uint32_t events) except -1:
        self.check(fd)
        if change(self.number, EPOLL_CTL_MOD, fd, events) != 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef int check(self, int fd) except -1:
        """Raise what ``select.epoll`` would: before it asks the kernel, it has errors of its own."""
        if self.number < 0:
            raise ValueError("I/O operation on closed epoll object")
        if fd < 0:
            raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
        return 0

    def remove(self, int fd):
        self.end(fd)

    cdef int end(self, int fd) except -1:
        if self._watchers.pop(fd, None) is not None:
            change(self.number, EPOLL_CTL_DEL, fd, 0)
        return 0

    def _on_ready(self):
        cdef epoll_event ready[EVENTS_PER_ROUND]
        cdef int count, at, fd
        cdef double end = <double>monotonic() + TURN
        self._ends = end
        for _ in range(ROUNDS):
            if self.number < 0:
                return
            count = epoll_wait(self.number, ready, EVENTS_PER_ROUND, 0)
            if count < 0 and errno != EINTR:
                PyErr_SetFromErrno(OSError)
            if count <= 0:  # after a signal the loop calls again: what is ready stays so
                return
            for at in range(count):
                fd = ready[at].data.fd
                watcher = self._watchers.get(fd)
                if watcher is None:
                    change(self.number, EPOLL_CTL_DEL, fd, 0)
                    continue
                try:
                    watcher.on_ready(ready[at].events)
                except Exception:
                    twin.log_failure()
                    if self._watchers.get(fd) is watcher:
                        self.end(fd)
            if <double>monotonic() >= end:
                return

    def close(self):
        if self.number >= 0:
            self._loop.remove_reader(self.number)
            self.number = -1
            self.epoll.close()
            self._watchers.clear()


# ---------------------------------------------------------------------- streams


cdef class Watched:
    """A connected stream socket: what is done again and again with one."""

    cdef public int fd
    cdef public uint32_t _events
    cdef readonly object _loop
    cdef readonly Watching _poller
    cdef object on_readable
    cdef object on_broken
    cdef Readiness read_waiter
    cdef Readiness write_waiter

    def __cinit__(self):
        self.fd = -1

    def __init__(self, loop, Watching poller not None, int fd, int flags=0):
        if not flags & SOCK_NONBLOCK and never_block(fd) != 0:
            try:
                PyErr_SetFromErrno(OSError)
            finally:
                close(fd)
        self._loop = loop
        self._poller = poller
        self.fd = fd

    @property
    def closed(self):
        return self.fd < 0

    def recv(self, Py_ssize_t count):
        cdef char data[SMALL]
        cdef ssize_t size
        if not 0 <= count <= SMALL:
            return os.read(self.fd, count)
        while True:
            size = read(self.fd, data, count)
            if size >= 0:
                return PyBytes_FromStringAndSize(data, size)
            self.fail()

    cdef int fail(self) except -1:
        """Raise what a system call has met; return where it was a signal."""
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
        PyErr_CheckSignals()
        return 0

    def recv_into(self, buffer):
        cdef Py_buffer view
        cdef ssize_t size
        cdef int fd = self.fd
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            while True:
                with nogil:
                    size = read(fd, view.buf, view.len)
                if size >= 0:
                    return size
                self.fail()
        finally:
            PyBuffer_Release(&view)

    def send(self, data):
        cdef Py_buffer view
        cdef ssize_t size
        cdef int fd = self.fd
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            while True:
                if view.len > MUCH:
                    with nogil:
                        size = write(fd, view.buf, view.len)
                else:
                    size = write(fd, view.buf, view.len)
                if size >= 0:
                    return size
                self.fail()
        finally:
            PyBuffer_Release(&view)

    @property
    def is_watched(self):
        return self.on_readable is not None

    def watch(self, callback):
        if self.on_broken is not None:
            self.on_broken = None
            self.unwant(FAILURE)
        self.on_readable = callback
        self.want(READ)

    def unwatch(self):
        self.on_readable = None
        self.unwant(READ)

    def watch_for_break(self, callback):
        self.on_broken = callback
        self.want(FAILURE)
        self.on_readable = None
        self.unwant(READ)

    def unwatch_for_break(self):
        self.on_broken = None
        self.unwant(FAILURE)

    def readable(self):
        self.read_waiter = waiter = Readiness(self._loop)
        self.want(READ)
        return waiter

    def writable(self):
        self.write_waiter = waiter = Readiness(self._loop)
        self.want(WRITE)
        return waiter

    def on_ready(self, uint32_t events):
        cdef Readiness waiter
        if events == READ and self.on_readable is not None:
            self.on_readable()
            return
        if events & BROKEN and self._events & FAILURE:
            on_broken = self.on_broken
            self.on_broken = None
            self.unwant(FAILURE)
            if on_broken is not None:
                on_broken()
        if events & ~<uint32_t>WRITE and self._events & READ:
            if self.on_readable is not None:
                self.on_readable()
            else:
                waiter = self.read_waiter
                self.read_waiter = None
                self.wake(waiter, READ)
        if events & ~<uint32_t>READ and self._events & WRITE:
            waiter = self.write_waiter
            self.write_waiter = None
            self.wake(waiter, WRITE)

    cdef int wake(self, Readiness waiter, uint32_t event) except -1:
        if waiter is None or waiter.is_done:
            self.unwant(event)
        else:
            waiter.succeed()
        return 0

    cdef int want(self, uint32_t event) except -1:
        if not self._events & event:
            if self._events:
                self._poller.alter(self.fd, self._events | event)
            else:
                self._poller.begin(self.fd, event, self)
            self._events |= event
        return 0

    cdef int unwant(self, uint32_t event) except -1:
        cdef uint32_t left = self._events & ~event
        if left == self._events:
            return 0
        if left:
            try:
                self._poller.alter(self.fd, left)
            except OSError:
                return 0
        else:
            self._poller.end(self.fd)
        self._events = left
        return 0

    def stop_watching(self):
        if self._events:
            self._events = 0
            self._poller.end(self.fd)
        self.on_readable = self.on_broken = None

    def close(self):
        cdef int fd = self.let_go()
        if fd >= 0:
            close(fd)
            self.cancel_waits()

    def _cancel_waits(self):
        self.cancel_waits()

    cdef int cancel_waits(self) except -1:
        if self.read_waiter is not None:
            self.read_waiter.cancel()
        if self.write_waiter is not None:
            self.write_waiter.cancel()
        return 0

    def release(self):
        return self.let_go()

    cdef int let_go(self) except? -1:
        cdef int fd = self.fd
        self.fd = -1
        if self._events:
            self._events = 0
            self._poller.end(fd)
        self.on_readable = self.on_broken = None
        return fd
