"""The optional services, which begin after READY=1, because no module and no sysctl needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from ipvsd.boot.installed_kernels import KernelInventory
from ipvsd.config.schema import Config
from ipvsd.daemon.kube_proxy_query import KubeProxyQuery
from ipvsd.daemon.web_configuration import WebConfiguration
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.ipvs_probe import IpvsProbe
from ipvsd.model.report import Operation, Report, SourceState
from ipvsd.model.types import ModuleFinding
from ipvsd.reconcile.rounds import ReconcileResult
from ipvsd.reporting.certificate_notice import CertificateNotice
from ipvsd.reporting.http_endpoint import HttpEndpoint
from ipvsd.reporting.notices import Notices
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.reporting.textfile import Textfile
from ipvsd.runtime import listening
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind

_RARELY = 60.0  # seconds, at most, between two attempts to listen


class OptionalServices:
    """The HTTP endpoint, the probe of IPVS, the query of kube-proxy, the installed kernels, and notices."""

    def __init__(
        self,
        root: str,
        loop: EventLoop,
        host: LinuxHost,
        failures: OperationFailures,
        latest: Callable[[], Optional[Report]],
    ) -> None:
        self._loop, self._failures, self._latest = loop, failures, latest
        self._web: Optional[HttpEndpoint] = None
        self._addresses: Sequence[tuple[str, int]] = ()
        self._inherited = listening.inherited()
        self._textfile = Textfile(root, failures)
        self._protection = WebConfiguration(root, loop, failures, self._secure)
        self._asker, self._survey = IpvsProbe(loop, local=root == "/"), KernelInventory(root)
        self._kube_proxy = KubeProxyQuery(loop, local=root == "/")
        self._notices, self._certificate = Notices(root, host), CertificateNotice()

    def start(self, config: Config, modules: Sequence[ModuleFinding]) -> None:
        self.serve(config)
        self._survey.update(config)
        self._asker.update(modules, ())
        self._kube_proxy.update(config.profiles, due=True)

    def serve(self, config: Config) -> None:
        self._addresses = config.listen
        self._protection.use(config.web_config)
        self._textfile.use(config.textfile)
        if self._web and self._web.listen != config.listen:
            self._web.close()
            self._web = None
        self._open()

    def _open(self) -> None:
        """Serve, unless the web configuration file has to be valid first."""
        if self._web is None and self._protection.security is not None:
            self._web = HttpEndpoint(self._latest, self._addresses, self._protection.security, self._inherited)
            self._listen(self._web)

    def _secure(self) -> None:
        if self._web and self._protection.security:
            self._web.secure(self._protection.security)
        self._open()
        self._loop.post(ReasonKind.RETRY, "web configuration file")

    def _listen(self, web: HttpEndpoint, pause: float = 1.0) -> None:
        """Open the addresses. Retry unavailable ones after `pause` seconds, which doubles with each attempt."""
        if web is not self._web:
            return
        before = web.listen_errors
        web.arm()
        self._failures.record(Operation.LISTEN, web.listen_errors)
        if web.listen_errors:
            self._loop.call_later(pause, lambda: self._listen(web, min(_RARELY, 2 * pause)))
        if web.listen_errors != before:
            self._loop.post(ReasonKind.RETRY, "listening")

    def check(self, config: Config, result: ReconcileResult, reasons: Sequence[Reason]) -> None:
        """Probe IPVS again if this reconciliation may have changed it. Do the rest at a resync."""
        self._asker.update(result.after.modules, reasons)
        resync = ReasonKind.RESYNC in {reason.kind for reason in reasons}
        self._kube_proxy.update(config.profiles, resync)
        if resync:
            self._survey.update(config)
            self._protection.check()
            if not result.unsettled:
                self._notices.update(config, result, self._survey.kernels)

    def start_query(self) -> None:
        """Start the query of kube-proxy, if it is due, just before the loop waits."""
        self._kube_proxy.start()

    def complete(self, report: Report) -> Report:
        if self._web and not self._web.listen_errors:  # otherwise, a retry is scheduled
            self._listen(self._web)  # the server may have ended
        invalid = SourceState("web", up=False, detail="no valid web configuration file", events_lost=None)
        security = self._protection.security
        report = report._replace(
            sources=(*report.sources, self._web.state() if self._web else invalid),
            ipvs=self._asker.answer,
            web_certificate_expiry=security.expiry if security else None,
            kernels=self._survey.kernels,
            kube_proxy=self._kube_proxy.state,
        )
        return self._certificate.complete(self._notices.complete(report))

    def export(self, report: Report) -> None:
        """Write a published report for other programs."""
        self._textfile.write(report)

    def close(self) -> None:
        self._textfile.remove()
        self._asker.close()
        self._kube_proxy.close()
        self._protection.close()
        if self._web:
            self._web.close()
        for opened in self._inherited.values():
            opened.close()
