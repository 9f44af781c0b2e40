"""`make bench`: the cost of a job, compared with alternatives to Prefecture."""
