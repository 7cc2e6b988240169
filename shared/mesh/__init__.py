"""Where a pure core meets sockets and the clock: connections, links, and the mesh of all nodes.

From the bytes upwards:

    channel     reads and writes one stream, as fast as it allows
    driver      one link, its connection (two channels) and its timer; make before break
    connection  the handle of a link: send, receive, the end (parties: who has to do with it)
    penalties   who is not dialled for a while, as the blacklist that all share has it
    dialer      one attempt at one endpoint, with its handshake     race: several at once
                (direct: attempts that need no task, since their sockets are connected at once)
    acceptor    the other side of that: listeners, pairing, limits
    manager     one link to one peer by its ways (ways, snapshot, network, callbacks)
    host        links to whoever connects
    mesh        links to all other nodes of the roster (peer: what is kept of one of them; shelf: what came too early;
                overview: how they all are, for whoever looks)
"""
