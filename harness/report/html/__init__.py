"""The page: one HTML file, what is packed into it, and the script that draws it."""
