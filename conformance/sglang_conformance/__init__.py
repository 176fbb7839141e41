"""The SGLang platform conformance kit.

Answers one question, with proof: does this platform plugin keep SGLang's contract, for this SGLang
release, on this machine? Start at ``plugin.py`` (the pytest plugin) or ``docs/architecture.md``.
"""

__version__ = "0.1.0"
