"""What SGLang's two classes of custom all-reduce have alike: a communicator, or the reason why there is none."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import torch

from .communicator import Communicator, connect
from .device import CudaDevice, Device
from .wanted import Wanted

logger = logging.getLogger("sglang.srt.distributed.device_communicators")


class Owner:
    """Disabled until it has a communicator; what it owns goes with it. ``why_disabled`` is of the reference alone."""

    disabled: bool = True
    why_disabled: str = "it was never made"
    make_device: Callable[[torch.device], Device] = CudaDevice
    _communicator: Communicator | None = None

    def _connect(self, group: Any, device: torch.device, wanted: Wanted) -> None:
        """Have a communicator, where all ranks can; else stay disabled, as all do."""
        made = connect(group, device, wanted, make_device=type(self).make_device)
        self._communicator, self.why_disabled = made.communicator, made.why
        self.disabled = made.communicator is None
        if self.disabled:
            logger.warning("%s is disabled: %s", type(self).__name__, made.why)

    def close(self) -> None:
        """Give back all memory, together with the other ranks; it is disabled from then on."""
        self._give_back(alone=False)

    def _give_back(self, *, alone: bool) -> None:
        communicator, self._communicator = self._communicator, None
        if communicator is not None:
            self.disabled, self.why_disabled = True, "it is closed"
            communicator.close(alone=alone)

    def __del__(self) -> None:
        """Give back this rank's memory, where nobody has: the others cannot be waited for here."""
        with contextlib.suppress(Exception):  # at the interpreter's end anything may be gone
            self._give_back(alone=True)
