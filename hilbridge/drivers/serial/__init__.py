"""The serial driver: a COM port on any `Line`. ``entry.py`` is its table of contents."""
