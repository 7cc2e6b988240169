"""Where a pure core meets sockets and the clock: connections, links, and the mesh of all nodes."""
