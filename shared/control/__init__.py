"""The typed messages between the supervisor and its workers, and between the supervisor and its clients.

Only data lives here: no socket and no process. Both ends import these types, so that a change of a message is a
change in one place. (And ``urgency``: what both ends ask of the scheduler, each for itself.)
"""
