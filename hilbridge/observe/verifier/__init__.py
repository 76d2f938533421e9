"""The driver verifier: it watches what drivers do, and names the rule that one has broken, the driver and the line."""
