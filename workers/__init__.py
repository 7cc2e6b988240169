"""Where processes and connections meet: the programs that run inside the mesh.

    worker     Worker, the class to derive from; rpc, timers: what @rpc and @every mark
    node       one worker as a node of the mesh: hooks, calls, messages
      inbox, sender, standstill: messages; calls, serving, lane, buffers: calls; finder, routing, peers, loopback: names
      blocking: threads; departure, ending: how it ends
    runtime    a worker process, from its assignment to its exit
      parent, lifeline, title: its ties to the supervisor, and its name in ps
      presence, pulse, traces: its signs of life, and where its threads are when it is asked
      spare, wiring: a process that is linked before it is a worker; what links are made of
    zygote     a process that forks workers once it has imported what they need
      rehearsal: their first milliseconds, played through beforehand
    plugins    PluginHost: workers as the plugins of any application, which is a node of their mesh
      plugin_spec, plugin_finder    which ones, by which rules, and where they are found
      introduction                  what a plugin says of itself before it starts
      plugin_contract, plugin_meter pure: whether it is what is needed, and whether it says too much
      plugin_node                   the application as a node
      plugin_keeper, plugin_news,   all of them, kept going, called and reported on
        plugin_mesh
    testing    virtual time, for tests

Nothing is imported here: ``python -m meshvisor.workers`` passes by on its way to a fast start.
"""
