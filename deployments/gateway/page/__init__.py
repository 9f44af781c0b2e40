"""The page of the gateway: people with a browser submit jobs, watch them and fetch the results.

The page is a client of the gateway's own REST API, in plain ES modules, which are sent as they are
in `static`. The server renders nothing, so that an open page costs it the events it is sent.
"""
