"""Topics: where generated data goes, line by line, in Kafka or in a folder."""
