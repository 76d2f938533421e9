"""Plug and Play: devices appear, get their stacks, are started, stopped, removed, and go."""
