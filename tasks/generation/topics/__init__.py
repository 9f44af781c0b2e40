"""Topics, which receive generated data line by line: in Kafka, or in a folder."""
