"""The workloads that ship; a file a kind."""
