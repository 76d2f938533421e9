"""Instruments that watch the model at work (verifier, trace, statistics), and cost nothing when absent."""
