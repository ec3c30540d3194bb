"""What a training would take on machines that are not here: volumes, links and compute, from 1 to 1,024 ranks."""
