"""The modules that flows are built from: contracts, errors, settings, and the work itself."""
