"""From traces to verdicts: pure functions over what ranks observed."""
