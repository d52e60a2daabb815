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
        gauge, counter = core.GaugeMetricFamily, core.CounterMetricFamily
        pool = self._pool
        yield self._family(gauge, "waiting",
                           "Requests that wait for a worker process of a Python verifier.",
                           {(): pool.waiting})
        yield self._family(gauge, "workers", "Worker processes of a Python verifier.",
                           {(): pool.alive})
        yield self._family(counter, "worker_restarts", "Worker processes replaced: killed, dead or worn.",
                           {(): pool.restarts})
        yield self._family(counter, "wait_seconds", "Time that workers of a verifier waited, by reason "
                           "(requests; start: of a worker process).",
                           {(reason,): seconds for reason, seconds in pool.waited_s().items()},
                           ("reason",))
        resident, peak = _memory_bytes()
        memory = gauge("tramontane_process_memory_bytes",
                       "Memory of the process, by kind (resident, peak).", labels=("kind",))
        memory.add_metric(("resident",), resident)
        memory.add_metric(("peak",), peak)
        yield memory

    def _family(self, kind, name, text, values, labels=()):
        family = kind(f"tramontane_verifier_{name}", text, labels=(*_LABELS, *labels))
        for label_values, value in values.items():
            family.add_metric((self._name, *label_values), value)
        return family


def _memory_bytes() -> tuple[int, int]:
    """Resident now, and at most so far; of the service, without its workers."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        fields = dict(line.split(":", 1) for line in status)
    return tuple(int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))


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
