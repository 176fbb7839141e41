"""What an answer should be, computed in another way than by whoever is asked: no code here is shared with a host."""
