"""Base job templates, the command that jobs run, and what keeps a pool's jobs alive."""
