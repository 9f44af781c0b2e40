"""What `prefecture apply` puts in place for jobs in Amazon ECS."""
