"""Lists published results, and removes those that have expired."""
