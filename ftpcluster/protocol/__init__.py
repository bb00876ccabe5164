"""The FTP protocol as text: command lines, replies, errors, paths, listings, addresses.

It is pure: values in, values out. It must not know sockets, files, clocks, threads or an event
loop, nor any other package of this project.
"""
