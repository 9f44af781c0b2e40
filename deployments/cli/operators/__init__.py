"""Commands for operators, and the demo."""
