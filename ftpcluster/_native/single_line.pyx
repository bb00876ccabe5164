# cython: boundscheck=False, wraparound=False
"""One command line, as most come. The twin is ``protocol/single_line.py``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE


def one_line(bytes data not None):
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data) - 1, at, space = -1
    cdef bytes verb
    cdef char *upper
    if end < 1 or text[end] != b"\n":
        return None
    while end > 0 and text[end - 1] == b"\r":
        end -= 1
    for at in range(end):
        if text[at] == b"\r" or text[at] == b"\n" or text[at] == b"\xff":
            return None
        if text[at] == b" " and space < 0:
            space = at
    if space < 0:
        space = end
    if space == 0:
        return None
    verb = PyBytes_FromStringAndSize(NULL, space)
    upper = PyBytes_AS_STRING(verb)
    for at in range(space):
        upper[at] = text[at] - 32 if b"a" <= text[at] <= b"z" else text[at]
    return verb, data[space + 1 : end] if space < end else b""
