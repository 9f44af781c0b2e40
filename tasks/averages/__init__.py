"""The mean of every index over many files of numbers, exact and streamed: pure work, no Prefect."""
