"""``harness check``: the whole contract asked of one function, and the answer on one screen."""
