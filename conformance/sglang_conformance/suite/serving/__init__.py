"""What the checks that serve a model need: servers, their pools and allocators, what was seen of them."""
