# cython: boundscheck=False, wraparound=False
"""Opening what lies beneath a directory. The twin is ``storage/beneath.py``.

The interpreter's lock is released where the storage may keep the call waiting.
"""

from os import strerror

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, EINVAL, EISDIR, ENXIO, EXDEV, errno
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    struct how_to_open {
        uint64_t flags, mode, resolve;
    };

    struct regular {
        int fd;
        uint64_t device, links;
        int64_t size;
    };

    enum { NUMBER_OF_OPENAT2 = 437, RESOLVE = 0x08 | 0x02 /* RESOLVE_BENEATH, _NO_MAGICLINKS */ };

    /* The descriptor, or -1 with errno. */
    static int open_once(int directory, const char *path, uint64_t flags, uint64_t mode) {
        struct how_to_open how = { flags, mode, RESOLVE };
        return (int)syscall(NUMBER_OF_OPENAT2, directory, path, &how, sizeof(how));
    }

    /* 0, or an errno: then the descriptor is closed. */
    static int examine(int fd, struct regular *found) {
        struct stat status;
        int problem = 0;
        if (fstat(fd, &status) != 0)
            problem = errno;
        else if (!S_ISREG(status.st_mode))
            problem = S_ISDIR(status.st_mode) ? EISDIR : ENXIO;
        if (problem) {
            close(fd);
            return problem;
        }
        found->fd = fd;
        found->device = status.st_dev;
        found->links = status.st_nlink;
        found->size = status.st_size;
        return 0;
    }
    """
    struct regular:
        int fd
        uint64_t device
        uint64_t links
        int64_t size
    int open_once(int directory, const char *path, uint64_t flags, uint64_t mode) nogil
    int examine(int fd, regular *found) nogil

cdef extern from "fcntl.h":
    uint64_t O_CLOEXEC

cdef extern from "unistd.h" nogil:
    int close(int fd)

cdef extern from "Python.h":
    int PyUnicode_IS_COMPACT_ASCII(object text)
    const char *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    const char *PyBytes_AS_STRING(object data)
    Py_ssize_t PyBytes_GET_SIZE(object data)

cdef enum:
    ATTEMPTS = 64  # EAGAIN: somebody renames directories while the kernel looks at ".."

cdef const char *HERE = "."


cdef object failed(int problem):
    raise OSError(problem, strerror(problem))


cdef int open_for(int directory, const char *path, uint64_t flags, uint64_t mode) except -1:
    """A descriptor. ``path`` belongs to an object that the caller holds."""
    cdef int fd, problem = 0
    for _ in range(ATTEMPTS):
        with nogil:
            fd = open_once(directory, path, flags, mode)
            if fd < 0:
                problem = errno
        if fd >= 0:
            return fd
        if problem == EINTR:
            PyErr_CheckSignals()
        elif problem != EAGAIN:
            break
    failed(problem)


cdef int check(const char *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t at
    if memchr(data, 0, size) != NULL:
        failed(EINVAL)
    for at in range(size - 1):
        if (
            data[at] == b"." and data[at + 1] == b"."
            and (at == 0 or data[at - 1] == b"/")
            and (at + 2 == size or data[at + 2] == b"/")
        ):
            failed(EXDEV)
    return 0


cdef const char *ascii_path(str path) except? NULL:
    """The path within the text itself, which ends with a NUL; NULL where it is not ASCII."""
    cdef const char *data
    cdef Py_ssize_t size
    if not PyUnicode_IS_COMPACT_ASCII(path):
        return NULL
    data = PyUnicode_DATA(path)
    size = PyUnicode_GET_LENGTH(path)
    while size and data[0] == b"/":
        data += 1
        size -= 1
    check(data, size)
    return data if size else HERE


def encode(str path not None):
    cdef bytes data
    cdef const char *text = ascii_path(path)
    if text != NULL:
        return <bytes>text
    data = path.lstrip("/").encode("utf-8", "surrogateescape")
    check(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return data


def openat2(int directory, bytes path not None, uint64_t flags, uint64_t mode):
    return open_for(directory, PyBytes_AS_STRING(path), flags, mode)


cdef tuple described(int fd):
    cdef regular found
    cdef int problem
    with nogil:
        problem = examine(fd, &found)
    if problem:
        failed(problem)
    try:
        return fd, found.device, found.size, found.links
    except BaseException:
        close(fd)
        raise


def examined(int fd):
    return described(fd)


def open_regular(int directory, str path not None, uint64_t flags, uint64_t mode):
    cdef bytes data
    cdef const char *text = ascii_path(path)
    if text == NULL:
        data = encode(path)
        text = PyBytes_AS_STRING(data)
    return described(open_for(directory, text, flags | O_CLOEXEC, mode))
