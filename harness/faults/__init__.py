"""Bugs to inject, each a value that says where it strikes; one file a family."""
