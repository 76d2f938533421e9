"""The peers that a fixture's process can serve: what is at the other end of the port, one kind in each file."""
