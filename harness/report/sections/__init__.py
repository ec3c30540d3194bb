"""What the page shows, prepared as data: cases with their figures, times, scaling, studies, findings, faults."""
