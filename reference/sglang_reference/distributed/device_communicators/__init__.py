"""``sglang.srt.distributed.device_communicators``: what moves a group's tensors other than torch.distributed."""
