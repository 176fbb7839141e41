"""Where vendor code runs: processes forked from a warm parent, with a chosen world and a deadline.

The pytest process never imports vendor code. It asks a warm process (:mod:`.zygote`: torch imported, one thread,
nothing of the vendor's) to fork a probe, gives it a job by name, and gets back plain data or a structured failure
(:mod:`.client`). A probe may itself become a warm process, so that what many checks need (the host imported, the
platform resolved) is done once.
"""
