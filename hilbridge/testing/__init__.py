"""Public tools for tests: scripted boards, loopback peers, the hand-cranked machine."""
