"""Ways to reach an endpoint: each adapter opens, or listens for, the byte streams that a connection is made of."""
