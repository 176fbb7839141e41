"""What the checks of an area need and other checks may use: one noun a module."""
