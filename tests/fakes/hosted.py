"""One endpoint: its fleets, its status in moto's registry, and how it changes from one to the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow
from moto.logs.models import logs_backends
from moto.sagemaker.models import FakeEndpoint

from . import alarms
from .rollout import Rollout
from .scale import scaled
from .serving import Fleet, StartFailed


class Endpoint:
    """A record of moto's (what Describe shows) with the fleets that serve it.

    `blue` serves; while an update runs, `green` takes `share` of the requests.
    """

    def __init__(self, record: FakeEndpoint, account: str, region: str) -> None:
        self.record = record
        self.account = account
        self.region = region
        self.blue: Fleet | None = None
        self.green: Fleet | None = None
        self.share = 0.0
        self._owed = 0.0
        self._lock = threading.Lock()
        self.gone = threading.Event()
        self.coming: Fleet | None = None  # the fleet that starts

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return str(self.record.endpoint_name)

    def enter(self) -> Fleet | None:
        """The fleet that takes the next request, already counted as busy; the caller calls its `leave`."""
        with self._lock:
            fleet = self.blue
            if self.green and self.share:
                self._owed += self.share
                if self._owed >= 1 - 1e-9:
                    self._owed -= 1
                    fleet = self.green
            if fleet:
                fleet.enter()
            return fleet

    def _shift(self, blue: Fleet | None, green: Fleet | None, share: float) -> None:
        with self._lock:
            self.blue, self.green, self.share, self._owed = blue, green, share, 0.0

    def _show(self, status: str, **fields: Any) -> None:
        """Change what Describe shows."""
        for name, value in fields.items():
            setattr(self.record, name, value)
        self.record.last_modified_time = utcnow()
        self.record.endpoint_status = status

    def create(self, fleet: Fleet) -> None:
        """Creating -> InService or Failed; runs in a thread."""
        self.coming = fleet
        try:
            fleet.start()
        except StartFailed as error:
            fleet.stop(0)
            self._log(fleet)
            self._show("Failed", failure_reason=str(error))
            return
        self._log(fleet)
        self._shift(fleet, None, 0.0)
        if self.gone.is_set():
            self._shift(None, None, 0.0)
            fleet.stop(0)
        else:
            self._show("InService", failure_reason=None)

    def begin_update(self, fleet: Fleet) -> None:
        """What Describe shows at once."""
        pending = {"EndpointConfigName": fleet.config_name, "StartTime": utcnow()}
        self._show("Updating", pending_deployment_summary=pending, failure_reason=None)

    def update(self, green: Fleet, rollout: Rollout, present: Callable[[Fleet], dict[str, Any]]) -> None:
        """Updating -> InService with the new configuration, or RollingBack -> InService with the old; in a thread.

        `present` gives what Describe shows for a fleet.
        """
        self.coming = green
        try:
            green.start()
            self._log(green)
            reason = self._bake(0, rollout)
            for step in rollout.steps if not reason else ():
                self._shift(self.blue, green, step.share)
                reason = self._bake(scaled(step.wait), rollout)
                if reason:
                    break
        except StartFailed as error:
            self._log(green)
            reason = str(error)
        if reason:
            self._show("RollingBack")
            self._shift(self.blue, None, 0.0)
            green.stop()
            self._show("InService", failure_reason=reason, pending_deployment_summary=None)
            return
        blue = self.blue
        self._shift(green, None, 0.0)
        self.gone.wait(scaled(rollout.keep))
        if blue:
            blue.stop()
        self._show("InService", pending_deployment_summary=None, **present(green))

    def _bake(self, seconds: float, rollout: Rollout) -> str | None:
        """Watch the alarms for `seconds`; why to roll back, or None."""
        end = threading.Event()
        timer = threading.Timer(seconds, end.set)
        timer.daemon = True
        timer.start()
        try:
            while True:
                over = end.is_set() or self.gone.is_set()
                if ringing := alarms.in_alarm(self.account, self.region, rollout.alarms):
                    # The wording is this fake's: AWS does not document its own.
                    return f"Deployment rolled back: CloudWatch alarm(s) [{', '.join(ringing)}] went into ALARM state."
                if over:
                    return None
                end.wait(0.02)
        finally:
            timer.cancel()

    def abandon(self) -> None:
        """Wait for nothing any more."""
        self.gone.set()
        if self.coming:
            self.coming.abandon()

    def delete(self) -> None:
        """Stop serving, once requests in flight are answered."""
        self.abandon()
        fleets = [fleet for fleet in (self.blue, self.green) if fleet]
        self._shift(None, None, 0.0)
        for fleet in fleets:
            fleet.stop()

    def _log(self, fleet: Fleet) -> None:
        """What the containers printed so far, into CloudWatch Logs."""
        group = f"/aws/sagemaker/Endpoints/{self.name}"
        backend = logs_backends[self.account][self.region]
        if group not in backend.groups:
            backend.create_log_group(group, {})
        now = int(utcnow().timestamp() * 1000)
        for variant, lines in fleet.logs.items():
            stream = f"{variant}/i-{id(fleet):017x}"
            if stream not in backend.groups[group].streams:
                backend.create_log_stream(group, stream)
            if lines:
                backend.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])
