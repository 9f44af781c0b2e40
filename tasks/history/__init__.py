"""The run history in SQL: what was asked for, what became of it, and how long it took.

`extract` reads attempts from the Prefect API, `store` writes them, `windows` and `aggregate` count
them, `questions` reads what was counted. Nothing of Prefecture needs it to have a job done.
"""
