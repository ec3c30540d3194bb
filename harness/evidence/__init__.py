"""What verdicts rest on: kept with a run, packed into a bundle, judged again on another machine."""
