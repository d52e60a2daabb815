"""/metrics of the service: what the C++ verifiers export, by the same names (docs/metrics.md), and
what only a pool of worker processes has."""
import prometheus_client
from prometheus_client import core

from tramontane_verifier import contract
from tramontane_verifier.pool import Pool

_SECONDS = (.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120)
_LABELS = ("verifier",)


class _PoolCollector:
    """Reads the pool when somebody looks."""

    def __init__(self, name: str, pool: Pool):
        self._name = name
        self._pool = pool

    def collect(self):
        for family, value in (
            (core.GaugeMetricFamily("tramontane_verifier_waiting",
                                    "Requests that wait for a worker process of a Python verifier.",
                                    labels=_LABELS), self._pool.waiting),
            (core.GaugeMetricFamily("tramontane_verifier_workers",
                                    "Worker processes of a Python verifier.", labels=_LABELS),
             self._pool.workers),
            (core.CounterMetricFamily("tramontane_verifier_worker_restarts",
                                      "Worker processes replaced: killed, dead or worn.",
                                      labels=_LABELS), self._pool.restarts),
        ):
            family.add_metric((self._name,), value)
            yield family


class Metrics:
    """The series of one service. Thread-safe."""

    def __init__(self, name: str, pool: Pool):
        prometheus_client.disable_created_metrics()
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(_PoolCollector(name, pool))

        def make(kind, metric, text, labels=_LABELS, **options):
            return kind(metric, text, labels, registry=self._registry, **options)

        self.in_flight = make(prometheus_client.Gauge, "tramontane_verifier_in_flight",
                              "Requests that a verifier process holds.").labels(name)
        self._queue_seconds = make(prometheus_client.Histogram, "tramontane_verifier_queue_seconds",
                                   "Wait before execution.", buckets=_SECONDS).labels(name)
        self._exec_seconds = make(prometheus_client.Histogram, "tramontane_verifier_exec_seconds",
                                  "Execution of one verification.", buckets=_SECONDS).labels(name)
        results = make(prometheus_client.Counter, "tramontane_verifier_results_total",
                       "Verdicts, by verifier and status.", ("verifier", "status"))
        # All of them from the start: a rate needs a first value.
        self._results = {number: results.labels(name, status.lower())
                         for status, number in contract.Status.items() if number}
        self._server = None

    def finished(self, result, started: bool) -> None:
        """One request was settled with this VerifyResult; `started`: a worker had taken it."""
        self._results[result.status].inc()
        if started:
            self._queue_seconds.observe(result.queue_seconds)
            if result.status != contract.Status["OVERLOADED"]:
                self._exec_seconds.observe(result.exec_seconds)

    def serve(self, bind: str) -> str:
        """Serves at host:port, port 0 picks one; the address. OSError when it is taken."""
        host, _, port = bind.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"--metrics-bind {bind}: host:port is expected")
        try:
            self._server, _ = prometheus_client.start_http_server(
                int(port), host.strip("[]"), self._registry)
        except OSError as e:
            raise OSError(f"cannot listen on {bind} for /metrics: {e.strerror or e}") from e
        return f"{host}:{self._server.server_port}"

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
