"""What the checks of device graphs share: capturing, feeding and judging them."""
