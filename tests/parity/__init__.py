"""The reference against the real SGLang, in lock-step: the same drawn world, given to both, must be told of alike.

A subject (:mod:`.selection`, :mod:`.hooking`, …) has worlds, frozen dataclasses that travel as JSON, and an ``enact``
that does in one process what a world says and tells what came of it. :mod:`.sides` keeps a warm process of either
SGLang for a release, :mod:`.comparing` finds where their stories differ, :mod:`.differences` lists what stays so.
"""
