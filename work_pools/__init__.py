"""Job templates of the work pools, the command that jobs run, workers and supervisors."""
