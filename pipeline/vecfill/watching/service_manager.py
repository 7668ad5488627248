"""Messages to the service manager, as systemd's ``sd_notify`` sends them: a datagram to the socket that it names."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """The service manager; without a socket in the environment, nobody is told."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET") or None
        watchdog = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.ping_every_s = int(watchdog) / 2e6 if mine and watchdog.isdigit() and int(watchdog) else None
        """Seconds between two signs of life: half of what the watchdog allows; None if there is none."""

    def tell(self, *states: str) -> None:
        """Sends states such as ``READY=1``. The manager being away is no reason to stop working."""
        if self._address is None:
            return
        place = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.connect(place)
                channel.sendall("\n".join(states).encode())
            except OSError as error:
                log.debug("the service manager is not told %s: %s", ", ".join(states), error)
