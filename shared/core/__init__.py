"""The pure core of a link: bytes, numbers, ``now`` and ``rng`` in; events, bytes and intents out.

Nothing here opens a socket, reads a clock, rolls dice or logs. A driver (``shared/mesh``) feeds what arrives from
a stream, writes what ``data_to_send`` returns, hands out ``events`` and calls ``tick`` at ``deadline``.
"""
