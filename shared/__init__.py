"""What both halves of meshvisor know: connections, not processes.

``shared/`` knows connections, not processes. ``supervisor/`` knows processes, not connections. ``workers/`` is
where the two meet.
"""
