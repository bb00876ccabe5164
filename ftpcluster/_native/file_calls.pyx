# cython: boundscheck=False, wraparound=False
"""What an open file is asked again and again. The twin is ``storage/file_calls.py``."""

from os import strerror

from libc.errno cimport EAGAIN, EINTR, EOPNOTSUPP, errno
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <errno.h>
    #include <stdint.h>
    #include <sys/stat.h>
    #include <sys/uio.h>

    /* 0, or an errno. */
    static int links_of(int fd, uint64_t *links) {
        struct stat status;
        if (fstat(fd, &status) != 0)
            return errno;
        *links = status.st_nlink;
        return 0;
    }

    /* As preadv2(2), of one byte: it never waits for a disk. */
    static int look(int fd, int64_t offset) {
        char byte;
        struct iovec one = { &byte, 1 };
        return preadv2(fd, &one, 1, offset, RWF_NOWAIT) < 0 ? -1 : 0;
    }
    """
    int links_of(int fd, uint64_t *links) nogil
    int look(int fd, int64_t offset)

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1


def count_links(int fd):
    cdef uint64_t links = 0
    cdef int problem
    with nogil:  # a server somewhere else may have to be asked
        problem = links_of(fd, &links)
    if problem:
        raise OSError(problem, strerror(problem))
    return links


def is_in_memory(int fd, int64_t offset):
    cdef int problem
    while look(fd, offset) < 0:
        problem = errno
        if problem == EAGAIN:
            return False
        if problem == EOPNOTSUPP:
            return None
        if problem != EINTR:
            raise OSError(problem, strerror(problem))
        PyErr_CheckSignals()
    return True
