"""The commands of ``supervise``, a module for each kind.

    options     what they have in common
    lifetime    init, check, run, shutdown
    look        status, top
    change      start, stop, restart, scale, reload
    events      events
    history     logs, why
    blacklist   blacklist list, add, clear
    mesh        mesh
    metrics     metrics
    completion  completion

Each takes its arguments, does one thing with the parts of ``meshvisor.supervisor``, prints, and returns the exit status
(None: 0). Errors are raised and told by ``cli``. What only one of them needs is imported when it runs.
"""
