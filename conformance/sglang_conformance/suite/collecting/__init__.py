"""What the checks of collectives stand on: what ranks bring, how it lies in memory, and how what comes is judged."""
