"""Pictures: one file made smaller or converted, and whole sets of them."""
