"""Sample drivers, each the answer to one "how do I write ...?"."""
