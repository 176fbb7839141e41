"""The host: the SGLang that a platform is checked inside, ``reference`` or ``installed``, behind one interface.

The controller picks one (:mod:`.choose`) without importing it. A probe enters it (:mod:`.enter`); from then on
``sglang.srt.*`` is importable, and nothing else in the kit needs to know which of the two it is.
"""
