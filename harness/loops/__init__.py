"""Training loops: the only place where frameworks are imported at the top of a module."""
