"""The packages ``sglang`` and ``sglang.srt``: empty, but for the release in ``sglang.__version__``."""
