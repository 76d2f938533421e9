"""Processors, IRQL, interrupts, DPCs, timers, and the poller that is the interrupt line."""
