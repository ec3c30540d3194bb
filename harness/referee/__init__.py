"""An independent referee: training in plain numpy, so that no framework's own bug is the truth."""
