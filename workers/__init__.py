"""Where processes and connections meet: the programs that run inside the mesh.

    worker     Worker, the class to derive from; rpc (what @rpc marks)
    node       one worker as a node of the mesh: hooks, calls, messages
      inbox, serving, calls, sender, finder, routing, loopback, standstill, lane, peers, departure, ending: its parts
    runtime    a worker process, from its assignment to its exit
      parent, lifeline, title: its ties to the supervisor, and its name in ps
      presence, pulse, traces: its signs of life, and where its threads are when it is asked
      spare, wiring: a process that is linked before it is a worker; what links are made of
    zygote     a process that forks workers once it has imported what they need
      rehearsal: their first milliseconds, played through beforehand
    testing    virtual time, for tests

Nothing is imported here: ``python -m meshvisor.workers`` passes by on its way to a fast start.
"""
