"""The messages between supervisor and worker, and the channel that carries them.

Their types bound every field, so that decoding is the check. This package must not know what either
side does with a message.
"""
