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
    incidents, story, why           what went wrong, remembered and told
    directory, leftovers            one supervisor per mesh, and nothing left of the one before
    surroundings                    what all lives of a mesh share
    life, slot, teller              one incarnation; one slot and its state machine; what it tells the others
      candidate                     one that prepares itself beside another
    fleet, limit, conductor         all slots: in order, against the restart limit, started and stopped
    renewal, changeover             what an operator changes: the code, the slots, the configuration
      roller, errands               without losing a call; and to its end, whoever waits for it
    hoard                           descriptors kept for the day on which there are none
    hub, supervisor                 the mesh as a whole, and as a library
    control, client                 requests to a running mesh: the end that answers and the end that asks
    style, columns, output, writer  what ``run`` shows, and how it gets out without being waited for
    notify, foreground              one mesh with the signals, the terminal and the control socket of a process
    status, blacklist, check,       what the other commands do
      lookup, init, naming
    cli                             the command line
"""
