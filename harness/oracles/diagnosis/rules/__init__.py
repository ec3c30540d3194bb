"""The rules, one file a part of a training step."""
