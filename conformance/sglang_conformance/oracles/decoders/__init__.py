"""What a decoder computes, in float64 and on whole sequences: every operator's values, logits, greedy tokens."""
