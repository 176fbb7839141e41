"""SGLang's server arguments: what the release's table says of them, and how they are resolved."""
