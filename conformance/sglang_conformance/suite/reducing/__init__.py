"""What several checks of custom all-reduce need, one noun a module."""
