"""Hardware made of Python, behind the same Line and Pipe, on the same interrupt vectors."""
