"""What flows are made of: contracts, errors, settings, and the work itself."""
