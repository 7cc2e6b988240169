"""Starts, watches, restarts and stops processes; knows nothing of the links between them.

Reading order, from what decides to what acts:

    snapshot, event             the facts of a moment and of a happening, for programs and for people
    child, backoff              pure: one slot as a state machine
    intensity, levels, strategy pure: the restart limit, the order of starts and stops, the end of a mesh
    spawn, launch, reaper       the birth and the death of a process
    nursery, cradle, zygote     where workers come from: a spare, a fork of a zygote, or a program started anew
      nest, reserve             processes that are in no slot; spares as the mesh sees them
    subreaper, guard, guardian  what becomes of orphans, and of everything if the supervisor is killed
    lifeline, herald            what the supervisor tells its workers
    logs, usage                 what the children print, and what they cost
    directory, leftovers        one supervisor per mesh, and nothing left of the one before
    slot                        one state machine and its process
    hub, supervisor             all slots together
    control, client             requests to a running mesh: the end that answers and the end that asks
    style, output, writer       what ``run`` shows, and how it gets out without being waited for
    foreground                  one mesh with the signals, the terminal and the control socket of a process
    status, check, lookup, init what the other commands do
    cli                         the command line
"""
