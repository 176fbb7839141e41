"""``sglang-conformance bench``: a platform's all-reduce, timed by engine beside its backend and a plain copy.

The command's own process (:mod:`.command`, :mod:`.measuring`) imports neither torch nor anything of the vendor's;
:mod:`.body` is what runs on the ranks.
"""
