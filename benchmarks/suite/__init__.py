"""`make bench`: what a job costs here, against what people would use instead."""
