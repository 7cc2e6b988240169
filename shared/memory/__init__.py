"""Tables in shared memory that outlive the processes which write them.

segment      one piece of memory: made, opened, checked, locked; knows nothing of what lies in it
record       a record that can be read whole, whenever and wherever its writer is killed or stopped

blacklist    penalties by key: what users, connection managers and the supervisor call
entry        the rules by which a penalty changes, and its form in a record; pure
table        which record belongs to which key
changes      who hears of changes, and what they are
watch        how a process is woken when another one has changed something
handover     how a process gets at memory without a name: it asks at a socket

board        the liveness board: what every node says about itself, and when it last made a turn
"""
