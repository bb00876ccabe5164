# cython: boundscheck=False, wraparound=False
"""What a data port does for each connection. The twin is ``net/sockets.py``."""

from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAFNOSUPPORT, EAGAIN, EINTR, errno
from libc.string cimport memcpy

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <sys/socket.h>
    #include <unistd.h>

    enum { ADDRESS_TEXT = INET6_ADDRSTRLEN };

    /* As accept4(2). The peer's address goes to text, which is empty where the family is another. */
    static int accept_with_address(int listener, char *text) {
        union {
            struct sockaddr any;
            struct sockaddr_in v4;
            struct sockaddr_in6 v6;
            struct sockaddr_storage room;
        } peer;
        socklen_t size = sizeof(peer);
        int fd = accept4(listener, &peer.any, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        text[0] = 0;
        if (fd >= 0) {
            if (peer.any.sa_family == AF_INET)
                inet_ntop(AF_INET, &peer.v4.sin_addr, text, ADDRESS_TEXT);
            else if (peer.any.sa_family == AF_INET6)
                inet_ntop(AF_INET6, &peer.v6.sin6_addr, text, ADDRESS_TEXT);
        }
        return fd;
    }
    """
    enum:
        ADDRESS_TEXT
    int accept_with_address(int listener, char *text)

cdef extern from "sys/socket.h":
    ctypedef unsigned int socklen_t
    int getsockopt(int fd, int level, int option, void *value, socklen_t *size)

cdef extern from "netinet/tcp.h":
    enum:
        TCP_INFO

cdef extern from "netinet/in.h":
    enum:
        IPPROTO_TCP

cdef extern from "unistd.h":
    int close(int fd)

cdef extern from "Python.h":
    int PyObject_AsFileDescriptor(object of) except -1


def accept_at_once(listener):
    # the interpreter's lock is kept: nothing here waits
    cdef char text[ADDRESS_TEXT]
    cdef int fd, source = PyObject_AsFileDescriptor(listener)
    while True:
        fd = accept_with_address(source, text)
        if fd >= 0:
            break
        if errno == EAGAIN:
            return None
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
        PyErr_CheckSignals()
    try:
        if text[0] == 0:
            raise OSError(EAFNOSUPPORT, "the peer has no address of the internet")
        return fd, text.decode("ascii")
    except BaseException:
        close(fd)
        raise


def is_queued(listener):
    cdef char info[28]
    cdef unsigned int queue
    cdef socklen_t size = sizeof(info)
    if getsockopt(PyObject_AsFileDescriptor(listener), IPPROTO_TCP, TCP_INFO, info, &size) != 0:
        PyErr_SetFromErrno(OSError)
    memcpy(&queue, info + 24, 4)
    return queue != 0
