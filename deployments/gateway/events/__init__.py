"""Events of jobs for the users of the gateway, as server-sent events.

    Prefect's websocket and one query every few seconds ─► watcher ─► journal ─► streams of users

One watcher serves all streams. It works only while there are some.
"""
