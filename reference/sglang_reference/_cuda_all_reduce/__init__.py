"""All-reduce between CUDA devices of one machine, by kernels that read and write the other ranks' memory.

:mod:`.layout` is pure; :mod:`.kernels` are the device's part, in Triton; :mod:`.buffers` is memory that ranks share,
on CUDA by way of :mod:`.cudart`; :mod:`.gathering` is how ranks meet on the host; :mod:`.device` is what the engine
asks of a device; :mod:`.engine` joins them. Nothing here imports ``sglang``. Triton is imported, and CUDA touched, when
an engine is made.
"""
