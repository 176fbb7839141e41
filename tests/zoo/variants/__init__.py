"""The right variants: plugins written in another way than the examples, which SGLang runs as well. An area a module."""
