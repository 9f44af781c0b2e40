"""The notifier: the process that emits final events of jobs and delivers notifications."""
