"""Imports that fail for want of something that SGLang needs: no fault of the vendor's, and not seen on this host.

A real SGLang may be installed without a package that one of its modules imports. A plugin that rightly goes to that
module then meets an ImportError which it did not cause.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations


def raised_in_sglang(error: BaseException) -> bool:
    """Whether an import failed in a module of SGLang's, for something that is not SGLang's.

    One that lacks a part of SGLang itself is the plugin's: it asked for what is gone, or so early that SGLang's modules
    met each other half imported. Another error than an ImportError is a package's that is here, and is not the one that
    SGLang wants: it comes of that package, while a module of SGLang's is imported.
    """
    frames = []
    trace = error.__traceback__
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        if not name.startswith(("importlib", "_frozen_importlib")):
            frames.append((name, trace.tb_frame.f_code.co_name))
        trace = trace.tb_next
    innermost = frames[-1][0] if frames else ""
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0] != "sglang" and innermost.startswith("sglang.")
    importing = any(name.startswith("sglang.") and code == "<module>" for name, code in frames)
    return importing and not innermost.startswith("sglang.")
