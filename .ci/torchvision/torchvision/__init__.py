"""What SGLang and transformers import of torchvision, for machines without an accelerator: see pyproject.toml."""
