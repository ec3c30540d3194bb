"""Models described once as tuples of layers; numpy only, built by the loops of each framework."""
