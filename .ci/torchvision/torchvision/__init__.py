"""What SGLang 0.5.11 to 0.5.20 imports of torchvision, for machines without an accelerator: see pyproject.toml."""
