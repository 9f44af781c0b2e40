"""Numbers out of files, and their exact sums: what one run does with one processor."""
