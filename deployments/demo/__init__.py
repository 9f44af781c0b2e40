"""A first look: real jobs of every compute task on photographs made on the spot."""
