"""From a case that differs to the smallest one that still does, and to a script that shows it without Lockstep."""
