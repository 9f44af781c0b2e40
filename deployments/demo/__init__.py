"""The demo: real jobs of every compute task, on generated photographs."""
