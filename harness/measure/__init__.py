"""From raw times to figures with intervals, and what is known of the machine they were taken on."""
