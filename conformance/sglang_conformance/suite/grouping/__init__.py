"""What the checks of groups need: sizes, numbers that tell their rank, worlds without processes, what is held."""
