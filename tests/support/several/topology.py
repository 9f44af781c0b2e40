"""What compose.yaml and the hosts run, on this machine: two API servers and the rest.

The servers' settings and the proxy's configuration are those of compose.yaml. Each host has a
network of its own.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.settings import Settings
from tests.support.needs import need_haproxy, need_hosts, need_redis
from tests.support.platform import BIN, Platform, answers, free_port, is_ready
from tests.support.session.environment import PASSWORD
from tests.support.several.hosts import Host
from tests.support.several.parts import Part
from tests.tasks.history.postgres import initialized, is_answering, new_database

TREE = Path(__file__).resolve().parents[3]
PREFECTURE = str(BIN / "prefecture")
HOSTS = ("host-1", "host-2")
_PASSWORD = {"PREFECT_API_AUTH_STRING"}
_OF_SERVER = _PASSWORD | {
    *("PREFECTURE_DATABASE_URL", "PREFECTURE_REDIS_URL", "PREFECTURE_SERVER_HOSTS"),
}
_OF_HOST = _PASSWORD | {"PREFECT_API_URL", "PREFECTURE_INPUTS_ROOT", "PREFECTURE_RESULTS_ROOT"}
_OF_HEAD = _OF_HOST | {"PREFECTURE_NOTIFICATIONS_URL", "PREFECTURE_HISTORY_URL"}
_API = (("server", "--no-services"), _OF_SERVER)
_NOTIFIER = (("notify",), _OF_HEAD)
_Programs = Mapping[str, tuple[tuple[str, ...], set[str]]]


def _host(number: int, slots: int = 2) -> _Programs:
    pool, name = ("--pool", "process"), f"host-{number}"
    return {
        f"worker-{number}": (("work", *pool, "--name", name, "--limit", str(slots)), _OF_HOST),
        f"supervisor-{number}": (("supervise", *pool, "--worker", name), _OF_HOST),
    }


PROGRAMS: _Programs = {
    "migrate": (("migrate",), _OF_SERVER),
    "server-1": _API,
    "server-2": _API,
    "services": (("services",), _OF_SERVER),
    "apply": (("apply", "--pool", "process"), _OF_HEAD),
    "gateway": (("gateway",), _OF_HOST),
    "notifier-1": _NOTIFIER,
    "notifier-2": _NOTIFIER,
    "platform": (("platform",), _OF_HEAD),
    **_host(1),
    **_host(2),
}
"""Each program of ours, by its name in compose.yaml: its command, and its settings there.

Where they listen is added to the commands. The programs that `topology` starts get these settings
and no others, but for those that its caller gives.
"""
OF_PROXY = {
    *("PREFECTURE_LISTEN", "PREFECTURE_LISTEN_INSIDE", "PREFECTURE_LISTEN_METRICS"),
    *("PREFECTURE_CERTIFICATE", "PREFECTURE_SERVER_1", "PREFECTURE_SERVER_2"),
}
"""The variables in the proxy's configuration."""
REDIS = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")
"""What Redis is told."""
ENDS = ("migrate", "apply")
"""The programs that end by themselves; the rest start once they have."""


@dataclass
class Topology:
    """The running programs, by the names of compose.yaml's services."""

    platform: Platform
    """Its API is that of the proxy."""
    gateway: str
    """The gateway's address."""
    servers: tuple[str, str]
    """The APIs of the two servers, which the proxy hides."""
    hosts: Mapping[str, Host]
    """The hosts, by name."""
    server: Host
    """The host of server-1, with a cable for the proxy, one for PostgreSQL and one for Redis."""
    counters: str
    """The address of what the proxy counts, for Prometheus."""
    parts: dict[str, Part] = field(default_factory=dict[str, Part])

    @property
    def settings(self) -> Settings:
        """The settings that say where the notification database is."""
        url = self.platform.environment["PREFECTURE_NOTIFICATIONS_URL"]
        return Settings.model_validate({"home": self.platform.home, "notifications_url": url})

    def __getitem__(self, name: str) -> Part:
        return self.parts[name]

    def gone(self) -> list[str]:
        """The programs that do not run."""
        return [name for name, part in self.parts.items() if not part.runs]


@contextmanager
def topology(
    folder: Path, settings: Mapping[str, str], hosts: int = len(HOSTS), slots: int = 2
) -> Generator[Topology]:
    """Start everything. `settings`: of all programs but the servers.

    `hosts`: how many, each with as many `slots`.
    """
    programs = {**PROGRAMS}
    for number in range(1, hosts + 1):
        programs |= _host(number, slots)
    redis, haproxy = need_redis(), need_haproxy()
    need_hosts()
    names = ("postgres", "redis", "server-1", "server-2", "proxy", "inside", "metrics", "gateway")
    ports = {name: free_port() for name in names}
    apis = {name: f"http://127.0.0.1:{port}/api" for name, port in ports.items()}
    home = folder / "home"
    home.mkdir(parents=True)
    base = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_SERVER_", "PREFECTURE_", "PREFECT_API_"))
    } | {"PREFECT_HOME": str(folder / "client"), "DO_NOT_TRACK": "1"}
    with TemporaryDirectory() as own, _hosts(folder, hosts) as (server, all_hosts):
        reached = [host.address for host in all_hosts.values()]
        to_postgres, to_redis = (server.cables[name].here for name in ("postgres", "redis"))
        apis["server-1"] = f"http://{server.cable.there}:{ports['server-1']}/api"
        serve = initialized(Path(own), ports["postgres"], to_postgres)
        postgres = Part(
            "postgres",
            serve,
            base,
            folder,
            lambda: is_answering(ports["postgres"]),
            signal.SIGINT,  # "fast": connections are closed
        )
        postgres.start()
        postgres.wait()
        try:
            address = f"postgresql://postgres@127.0.0.1:{ports['postgres']}/"
            database = f"{address}{new_database(address)}"
            values = {
                "PREFECT_API_AUTH_STRING": PASSWORD,
                "PREFECT_API_URL": apis["inside"],
                "PREFECTURE_DATABASE_URL": database,
                "PREFECTURE_REDIS_URL": f"redis://127.0.0.1:{ports['redis']}/0",
                "PREFECTURE_SERVER_HOSTS": ",".join([*reached, server.cable.there]),
                "PREFECTURE_INPUTS_ROOT": str(home / "inputs"),
                "PREFECTURE_RESULTS_ROOT": str(home / "results"),
                "PREFECTURE_NOTIFICATIONS_URL": database,
                "PREFECTURE_HISTORY_URL": database,
            }

            def environment(name: str, **more: str) -> dict[str, str]:
                """The environment of a program of ours, with a home of its own."""
                known = programs[name][1]
                has = {key: value for key, value in values.items() if key in known}
                given = dict[str, str]() if known == _OF_SERVER else dict(settings)
                return base | {"PREFECTURE_HOME": str(folder / name)} | has | given | more

            def run(name: str, **more: str) -> None:
                command = [PREFECTURE, *programs[name][0]]
                env = environment(name, **more)
                done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr

            def listening(name: str, is_ready: Callable[[], bool]) -> Part:
                command = [PREFECTURE, *programs[name][0], "--port", str(ports[name])]
                return Part(name, command, environment(name), folder, is_ready)

            def quiet(name: str) -> Part:
                return Part(name, [PREFECTURE, *programs[name][0]], environment(name), folder)

            of_proxy = {
                "PREFECTURE_LISTEN": ",".join(f"{host}:{ports['proxy']}" for host in reached),
                "PREFECTURE_LISTEN_INSIDE": f"127.0.0.1:{ports['inside']}",
                "PREFECTURE_LISTEN_METRICS": f"127.0.0.1:{ports['metrics']}",
                "PREFECTURE_CERTIFICATE": "",
                "PREFECTURE_SERVER_1": f"{server.cable.there}:{ports['server-1']}",
                "PREFECTURE_SERVER_2": f"127.0.0.1:{ports['server-2']}",
            }
            assert of_proxy.keys() == OF_PROXY
            queue = ["--port", str(ports["redis"]), "--bind", "127.0.0.1", to_redis, "--dir", own]
            queue += ["--protected-mode", "no"]
            address = server.cable.there
            first_server = Part(
                "server-1",
                server.command(
                    *(PREFECTURE, *programs["server-1"][0], "--port", str(ports["server-1"])),
                    *("--host", address, "--insecure"),
                ),
                environment(
                    "server-1",
                    PREFECTURE_DATABASE_URL=database.replace("127.0.0.1", to_postgres),
                    PREFECTURE_REDIS_URL=f"redis://{to_redis}:{ports['redis']}/0",
                ),
                folder,
                lambda: is_ready(apis["server-1"]),
            )
            configuration = str(TREE / "deployments" / "server" / "haproxy.cfg")
            first = [
                first_server,
                listening("server-2", lambda: is_ready(apis["server-2"])),
                quiet("services"),
                Part(
                    "proxy",
                    [haproxy, "-f", configuration],
                    base | of_proxy,
                    folder,
                    lambda: is_ready(apis["inside"]),
                ),
            ]
            running = {
                "postgres": postgres,
                "redis": Part("redis", [redis, *queue, *REDIS], base, folder),
            }

            def start(parts: Sequence[Part]) -> None:
                for part in parts:
                    running[part.name] = part
                    part.start()
                for part in parts:
                    part.wait()

            try:
                running["redis"].start()
                run("migrate")
                start(first)
                # Its home is that of the platform, as commands of the operator have it.
                run("apply", PREFECTURE_HOME=str(home))
                door = f"http://127.0.0.1:{ports['gateway']}"
                later = [listening("gateway", lambda: answers(f"{door}/health"))]
                later += [quiet(name) for name in ("notifier-1", "notifier-2", "platform")]
                for number, host in enumerate(all_hosts.values(), 1):
                    reach = f"http://{host.address}:{ports['proxy']}/api"
                    for name in (f"worker-{number}", f"supervisor-{number}"):
                        env = environment(
                            name,
                            PREFECT_API_URL=reach,
                            PREFECTURE_HOME=str(folder / f"host-{number}"),
                        )
                        command = host.command(PREFECTURE, *programs[name][0])
                        later.append(Part(name, command, env, folder))
                start(later)
                of_operator = environment("apply", PREFECTURE_HOME=str(home))
                platform = Platform(
                    "process", home, ports["inside"], running["proxy"].process, of_operator
                )
                servers = (apis["server-1"], apis["server-2"])
                counters = f"http://127.0.0.1:{ports['metrics']}/metrics"
                yield Topology(platform, door, servers, all_hosts, server, counters, running)
            finally:
                with ExitStack() as all:
                    for part in running.values():  # the last one first
                        if part is not postgres:
                            all.callback(part.stop)
        finally:
            postgres.stop()


@contextmanager
def _hosts(folder: Path, count: int) -> Generator[tuple[Host, Mapping[str, Host]]]:
    with ExitStack() as stack:

        def host(*cables: str) -> Host:
            new = Host(folder, cables)
            stack.callback(new.stop)
            return new

        yield (
            host("proxy", "postgres", "redis"),
            {f"host-{number}": host("eth0") for number in range(1, count + 1)},
        )
