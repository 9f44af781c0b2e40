"""Jobs through a gateway: from any machine, with a user's token and nothing else."""
