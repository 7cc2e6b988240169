"""Starts, watches, restarts and stops processes; knows nothing of the links between them.

Reading order, from what decides to what acts:

    snapshot, event                 the facts of a moment and of a happening, for programs and for people
    child, backoff                  pure: one slot as a state machine
    intensity, levels, strategy     pure: the restart limit, the order of starts and stops, who restarts with whom
    verdict, changes                pure: whether a late worker hangs, starves or computes; what a reload has to do
    spawn, launch, confinement      the birth of a process
      reaper                        and its death
    nursery, cradle, zygote         where workers come from: a spare, a fork of a zygote, or a program started anew
      nest, reserve                 processes that are in no slot; spares as the mesh sees them
    subreaper, sweeps               what becomes of orphans
      guard, guardian               and of everything if the supervisor is killed
    lifeline, herald, identity      what the supervisor tells its workers
    tables, attach                  what the mesh has in shared memory, and who gets at it
    procfs, watchdog, lookout       who is late, frozen or hangs
      traces, whereabouts           and where it was
    attendant                       who looks after one incarnation:
      readiness, probes, inotify,   is it ready,
      notifications
      health, memory                is it well, is it too large
    logs, rotation, usage           what the children print, and what they cost
    incidents, story, frames, why   what went wrong, remembered and told
    directory, leftovers            one supervisor per mesh, and nothing left of the one before
    surroundings                    what all lives of a mesh share
    life, slot, teller              one incarnation; one slot and its state machine; what it tells the others
      turnstile                     and why a hundred deaths at once hold nobody up
      candidate                     one that prepares itself beside another
    fleet, limit, conductor         all slots: in order, against the restart limit, started and stopped
    renewal, changeover             what an operator changes: the code, the slots, the configuration
      roller, errands, wish         without losing a call; to its end, whoever waits for it; in its turn
    hoard                           descriptors kept for the day on which there are none
    hub, supervisor                 the mesh as a whole, and as a library
      member, embedding             in a program that is a node itself
    survey                          how the links of all workers are, when somebody asks
    figures, gauge                  what is measured of a mesh, when somebody asks
      metrics, exposition           the table of metrics, and the text for Prometheus
      outlet, scrape                where they are served, over HTTP
    difference, progress            pure: what a reload would change; how far a change has come
    operations                      changes that operators ask for, carried out to the end
    pump, gate, feed                sockets of ZeroMQ in our loop, who gets in, and events for whoever listens
    control, client, following      requests to a running mesh: the end that answers and the end that asks
    style, cells, labels, columns   texts on a terminal
      output, jsonlines, writer     what ``run`` shows, and how it gets out without being waited for
    trail, logbook, lines           what the slots have printed, read again out of rotated files
    sources, autoreload             files that change, and what ``run --watch`` does about it
    notify, foreground              one mesh with the signals, the terminal and the control socket of a process
    links, scales, matrix,          pure: the links of a mesh as pairs, as a table, as text,
      overview, graph                and for Graphviz
    top                             the live view, a package of its own
    status, outcome, happenings,    what the other commands do
      blacklist, check, lookup,
      init, naming, remains
    commands, cli                   the command line
"""
