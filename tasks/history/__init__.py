"""The run history in SQL: jobs, their outcomes and their durations.

`extract` reads attempts from the Prefect API, `store` writes them, `periods` and `aggregate` count
them, `queries` reads the counts. Jobs run without it.
"""
