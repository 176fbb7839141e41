"""Read a plugin's code as one SGLang release would run it, without running any of it."""
