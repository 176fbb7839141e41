"""The catalogue: every rule a platform must keep, as data."""
