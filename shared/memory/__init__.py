"""Tables in shared memory that outlive the processes which write them."""
