"""The composition root: builds the floors below into one system, and owns the order of start and stop."""
