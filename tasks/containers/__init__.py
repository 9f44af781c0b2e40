"""The users' own images: found or built, run hardened beside the flow, their output collected."""
