"""In which order a worker takes the runs that wait, and which of them its host has room for."""
