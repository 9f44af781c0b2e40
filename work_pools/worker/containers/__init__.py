"""The containers of a worker's jobs, most of them started before there is a job."""
