"""The likely cause of a difference in words: what the numbers at the first divergence are instead of the right ones."""
