"""Custom all-reduce, decided: which generation of it a group has, which algorithm a tensor takes, and why.

Pure: :mod:`.topology` (the facts), :mod:`.generations` (the verdict of them), :mod:`.thresholds` and :mod:`.limits`
(what a generation takes, by which algorithm), :mod:`.tensors` (which tensors).

With effects: :mod:`.settings`, :mod:`.providers` and :mod:`.nvml` (the facts, gathered), :mod:`.peer_access` (what was
tested, kept in a file), :mod:`.consensus` on a :mod:`.board` (one verdict for a group), :mod:`.deciding` (all of it).

None of these imports ``sglang``; facts are those of SGLang 0.5.11 to 0.5.23, srt/distributed/device_communicators.
"""
