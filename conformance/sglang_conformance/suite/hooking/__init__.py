"""What the checks of hooks stand on: drawn programs, the rules they follow, and what a plugin registers."""
