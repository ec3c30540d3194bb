"""Runs held against each other: sides, changes, and the words for them."""
