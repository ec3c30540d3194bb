"""One file a strategy; each registers itself."""
