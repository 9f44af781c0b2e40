"""The worker whose jobs are tasks of Amazon ECS."""
