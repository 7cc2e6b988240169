"""One link between two processes beside other ways to pass messages."""
