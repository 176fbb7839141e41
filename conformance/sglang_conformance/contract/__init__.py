"""What one SGLang release demands of a platform, as data."""
