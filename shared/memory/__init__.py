"""Tables in shared memory that outlive the processes which write them.

segment      one piece of memory: made, opened, checked, locked; knows nothing of what lies in it
record       a record that can be read whole, whenever and wherever its writer is killed or stopped
board        the liveness board: what every node says about itself, and when it last made a turn
"""
