"""Starting ranks and preparing what their communication library wants to find."""
