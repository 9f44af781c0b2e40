"""The network of jobs' containers: closed, but for the server's API and the hosts of a setting."""
