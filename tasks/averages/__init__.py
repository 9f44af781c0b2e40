"""average-files: the exact mean of every index over many files of numbers."""
