"""The pure core of a link: bytes, numbers, ``now`` and ``rng`` in; events, bytes and intents out.

Nothing here opens a socket, reads a clock, rolls dice or logs. A driver (``shared/mesh``) feeds what arrives from
a stream, writes what ``data_to_send`` returns, hands out ``events`` and calls ``tick`` at ``deadline``.

A tour, in the order in which the parts need each other:

    malformed               what decoding raises for bytes that are not what they should be
    endpoint, message       where a node is; what an application receives
    frames                  the wire: preambles, frames, limits
    handshake               who is there, proved by both sides; which session, and what was received of it
    session                 exactly once, in order: numbers, replay, acknowledgement, the window
    phi, rtt, health        is it late? how long does an answer take? am I the slow one?
    liveness, passage       is the other end still there? does what is written arrive?
    link                    all of that over one connection after the other
    penalties, retry        endpoints that failed; back-off, budget, rates
    choice, dialplan        which endpoints are dialled now, and when each
    roster, peering         who is in the mesh; who dials whom, and who is over
    states, stage           what a manager can say of itself, and what a node can
"""
