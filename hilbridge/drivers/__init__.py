"""Function drivers, one package each. They get their Line or Pipe in START_DEVICE and never import hal."""
