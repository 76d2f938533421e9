"""Upper and lower filter drivers: they see the IRPs that pass between two devices of a stack."""
