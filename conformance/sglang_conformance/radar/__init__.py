"""What of a plugin another SGLang release breaks: its code is read, not imported, and held against tables."""
