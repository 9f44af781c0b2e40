"""The frame of compute tasks: checks of parameters, states, events, retries, publishing."""
