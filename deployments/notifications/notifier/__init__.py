"""The process that sees to it that each end of a job is told, once."""
