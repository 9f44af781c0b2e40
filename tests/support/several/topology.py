"""What compose.yaml and the hosts run, on this machine: two API servers and the rest.

The servers' settings and the proxy's configuration are those of compose.yaml. Each host has a
network of its own.
"""

import os
import signal
import subprocess
from collections.abc import Generator, Mapping
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
_OF_SERVER = {"PREFECTURE_DATABASE_URL", "PREFECTURE_REDIS_URL", "PREFECT_API_AUTH_STRING"}
_API = (("server", "--no-services"), _OF_SERVER)
SERVERS = {
    "migrate": (("migrate",), _OF_SERVER),
    "server-1": _API,
    "server-2": _API,
    "services": (("services",), _OF_SERVER),
}
"""Each part of the server: its command, and the settings that differ from one operator to another.
"""
OF_PROXY = {
    *("PREFECTURE_LISTEN", "PREFECTURE_CERTIFICATE", "PREFECTURE_SERVER_1", "PREFECTURE_SERVER_2"),
}
"""The variables in the proxy's configuration."""
REDIS = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")
"""What Redis is told."""


@dataclass
class Topology:
    """The running programs, by the names of compose.yaml's services; hosts' have theirs before."""

    platform: Platform
    """Its API is that of the proxy."""
    gateway: str
    """The gateway's address."""
    servers: tuple[str, str]
    """The APIs of the two servers, which the proxy hides."""
    hosts: Mapping[str, Host]
    """The hosts, by name."""
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
def topology(folder: Path, settings: Mapping[str, str], slots: int = 2) -> Generator[Topology]:
    """Start everything. `settings`: of the hosts and of the notifier."""
    redis, haproxy = need_redis(), need_haproxy()
    need_hosts()
    ports = {
        name: free_port()
        for name in ("postgres", "redis", "server-1", "server-2", "proxy", "gateway")
    }
    apis = {name: f"http://127.0.0.1:{port}/api" for name, port in ports.items()}
    home = folder / "home"
    home.mkdir(parents=True)
    common = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_SERVER_", "PREFECTURE_"))
    } | {
        "PREFECT_API_AUTH_STRING": PASSWORD,
        "PREFECT_HOME": str(folder / "client"),
        "DO_NOT_TRACK": "1",
    }
    with TemporaryDirectory() as own, _hosts(folder) as hosts:
        reached = [host.address for host in hosts.values()]
        serve = initialized(Path(own), ports["postgres"])
        postgres = Part(
            "postgres",
            serve,
            common,
            folder,
            lambda: is_answering(ports["postgres"]),
            signal.SIGINT,  # "fast": connections are closed
        )
        postgres.start()
        postgres.wait()
        try:
            address = f"postgresql://postgres@127.0.0.1:{ports['postgres']}/"
            database = f"{address}{new_database(address)}"
            of_server = common | {
                "PREFECTURE_DATABASE_URL": database,
                "PREFECTURE_REDIS_URL": f"redis://127.0.0.1:{ports['redis']}/0",
                "PREFECTURE_HOME": str(folder / "servers"),
                "PREFECTURE_SERVER_HOSTS": ",".join(reached),
            }
            here = common | {
                "PREFECTURE_INPUTS_ROOT": str(home / "inputs"),
                "PREFECTURE_RESULTS_ROOT": str(home / "results"),
                "PREFECTURE_NOTIFICATIONS_URL": database,
                **settings,
            }
            of_head = here | {"PREFECTURE_HOME": str(home), "PREFECT_API_URL": apis["proxy"]}
            of_proxy = common | {
                "PREFECTURE_LISTEN": ",".join(
                    f"{address}:{ports['proxy']}" for address in ("127.0.0.1", *reached)
                ),
                "PREFECTURE_CERTIFICATE": "",
                "PREFECTURE_SERVER_1": f"127.0.0.1:{ports['server-1']}",
                "PREFECTURE_SERVER_2": f"127.0.0.1:{ports['server-2']}",
            }
            queue = ["--port", str(ports["redis"]), "--bind", "127.0.0.1", "--dir", own]
            parts = [
                postgres,
                Part("redis", [redis, *queue, *REDIS], common, folder),
                *(
                    Part(
                        name,
                        [PREFECTURE, *SERVERS[name][0], "--port", str(ports[name])],
                        of_server,
                        folder,
                        lambda name=name: is_ready(apis[name]),
                    )
                    for name in ("server-1", "server-2")
                ),
                Part("services", [PREFECTURE, *SERVERS["services"][0]], of_server, folder),
                Part(
                    "proxy",
                    [haproxy, "-f", str(TREE / "deployments" / "server" / "haproxy.cfg")],
                    of_proxy,
                    folder,
                    lambda: is_ready(apis["proxy"]),
                ),
            ]
            running = {part.name: part for part in parts}
            try:
                running["redis"].start()
                _run("migrate", of_server)
                for part in parts[2:]:
                    part.start()
                for part in parts[2:]:
                    part.wait()
                _run("apply", of_head, "--pool", "process")
                door = f"http://127.0.0.1:{ports['gateway']}"
                later = [
                    *(
                        Part(name, [PREFECTURE, "notify"], of_head, folder)
                        for name in ("notifier-1", "notifier-2")
                    ),
                    Part(
                        "gateway",
                        [PREFECTURE, "gateway", "--port", str(ports["gateway"])],
                        of_head,
                        folder,
                        lambda: answers(f"{door}/health"),
                    ),
                ]
                for name, host in hosts.items():
                    env = here | {
                        "PREFECTURE_HOME": str(folder / name),
                        "PREFECT_API_URL": f"http://{host.address}:{ports['proxy']}/api",
                    }
                    work = ["work", "--pool", "process", "--name", name, "--limit", str(slots)]
                    supervise = ["supervise", "--pool", "process", "--worker", name]
                    later += [
                        Part(f"{name} worker", host.command(PREFECTURE, *work), env, folder),
                        Part(
                            f"{name} supervisor", host.command(PREFECTURE, *supervise), env, folder
                        ),
                    ]
                for part in later:
                    running[part.name] = part
                    part.start()
                for part in later:
                    part.wait()
                platform = Platform(
                    "process", home, ports["proxy"], running["proxy"].process, of_head
                )
                servers = (apis["server-1"], apis["server-2"])
                yield Topology(platform, door, servers, hosts, running)
            finally:
                with ExitStack() as all:
                    for part in running.values():  # the last one first
                        all.callback(part.stop)
        finally:
            postgres.stop()


@contextmanager
def _hosts(folder: Path) -> Generator[Mapping[str, Host]]:
    with ExitStack() as stack:
        hosts: dict[str, Host] = {}
        for name in HOSTS:
            hosts[name] = Host(folder)
            stack.callback(hosts[name].stop)
        yield hosts


def _run(command: str, env: Mapping[str, str], *words: str) -> None:
    done = subprocess.run(
        [PREFECTURE, command, *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
