"""Which tests one process runs, one after the other: those that share what is slow to start.

With pytest-xdist the tests of a group go to one process (`--dist loadgroup`), and what the group
has started ends with its last test: an idle Prefecture costs a fifteenth of a core.
"""

from collections.abc import Callable

import pytest

_GROUP = pytest.StashKey[str]()
# Those that take longest come first, so that none is left to be waited for at the end.
_PLATFORMS = (
    *("docker_trials", "docker_platform", "process_platform", "process_trials"),
    *("several", "second_engine", "stock_api"),
)
# One process would need longer for all that run on one platform than the others for all the rest.
_PARTS = {
    " 2": (
        *("tests/deployments", "tests/integration/jobs", "tests/integration/history"),
        *("tests/integration/run_container", "tests/browser", "tests/test_docs.py"),
    ),
    " 3": ("tests/integration/gateway", "tests/integration/page"),
}
_NEXT = ("tests/integration", "tests/chaos", "tests/work_pools")  # with a platform of their own
_BY_PARAMETER = ("platform", "trials")


def put_in_groups(items: list[pytest.Item]) -> None:
    """Give every test its group: the platform that it runs on, or its file."""
    for item in items:
        path = str(item.path.relative_to(item.config.rootpath))
        group = _platform_of(item) or path
        if group in ("process_platform", "docker_platform"):
            group += next((part for part in _PARTS if path.startswith(_PARTS[part])), "")
        item.stash[_GROUP] = group
        item.add_marker(pytest.mark.xdist_group(group))


def put_in_order(items: list[pytest.Item]) -> None:
    """Bring the tests of a group together, the groups and the tests in them in the order given."""
    groups = dict.fromkeys(item.stash[_GROUP] for item in items)

    def place(group: str) -> tuple[int, bool]:
        platform = group.partition(" ")[0]
        first = _PLATFORMS.index(platform) if platform in _PLATFORMS else len(_PLATFORMS)
        return first, not group.startswith(_NEXT)

    places = {group: number for number, group in enumerate(sorted(groups, key=place))}
    items.sort(key=lambda item: places[item.stash[_GROUP]])


def is_run(request: pytest.FixtureRequest, test: Callable[..., object]) -> bool:
    """Whether a test is among those that are run this time."""
    name = test.__name__
    return any(getattr(item, "originalname", None) == name for item in request.session.items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a group's last test as the last of all: every fixture ends with it, and begins anew."""
    if nextitem is None or nextitem.stash[_GROUP] == item.stash[_GROUP]:
        return None
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return True


def _platform_of(item: pytest.Item) -> str | None:
    assert isinstance(item, pytest.Function)
    callspec = getattr(item, "callspec", None)
    for fixture in _BY_PARAMETER:
        if callspec and fixture in callspec.params:
            return f"{callspec.params[fixture]}_{fixture}"
    return next((name for name in _PLATFORMS if name in item.fixturenames), None)
