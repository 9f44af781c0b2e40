"""The forms of Prefect's two UIs, filled as a person fills them: by the label of each field."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from playwright.sync_api import Locator, Page, TimeoutError

from tests.browser.pages import visit
from tests.support.platform import PATIENCE, wait_until

UI = Literal["V1", "V2"]
_PREFIX = {"V1": "", "V2": "/v2"}
# The element around a field: its label, description, input and message.
_AROUND = {"V1": "schema-form-property", "V2": "group"}
_CODE = {"V1": "textarea", "V2": ".cm-content"}
_LONGEST = 1000 * PATIENCE  # ms
_OPENS = 20_000  # ms; what has heard the click


def _shows(wanted: Locator) -> bool:
    """Whether a click has brought it: a busy page does not hear each one."""
    try:
        wanted.wait_for(timeout=_OPENS)
    except TimeoutError:
        return False
    return True


@dataclass
class Choice:
    """An option of a field that offers some."""

    option: str


@dataclass
class Code:
    """What is typed into an editor, such as that for JSON."""

    text: str


@dataclass
class Form:
    """The form of a deployment in one of the UIs."""

    page: Page
    address: str
    ui: UI

    def open(self, deployment: str) -> None:
        """Go to the form, with nothing filled in. `deployment`: its id."""
        path = f"/deployments/deployment/{deployment}/run"
        visit(
            self.page,
            f"{self.address}{_PREFIX[self.ui]}{path}",
            self.field("Results directory"),
        )

    def field(self, label: str) -> Locator:
        """A field with all that belongs to it, whether it may be left out or not."""
        names = f"normalize-space()='{label}' or normalize-space()='{label} (Optional)'"
        around = f"contains(concat(' ', @class, ' '), ' {_AROUND[self.ui]} ')"
        return self.page.locator(
            f"xpath=//*[(self::label or self::span) and ({names})]/ancestor::div[{around}][1]"
        ).first

    def fill(self, values: Mapping[str, Any]) -> None:
        """Fill fields by label: a text or number, a list, code, a choice, a time or a tick."""
        for label, value in values.items():
            field = self.field(label)
            match value:
                case Choice(option):
                    self._choose(field, option)
                case datetime():
                    self._pick_a_time(field)
                case bool():
                    field.locator("[role=switch], [type=checkbox]").first.click(force=True)
                case list():
                    self._add_items(field, cast("list[str]", value))
                case Code(text):
                    field.locator(_CODE[self.ui]).first.click()
                    self.page.keyboard.insert_text(text)
                case _:
                    field.locator("textarea, input").first.fill(str(value))

    def submit(self) -> tuple[int, dict[str, Any]]:
        """Press the button. Returns the status and body of the server's answer.

        A 503, of two writers on SQLite, creates nothing: a person presses again.
        """
        for _ in range(10):
            with self.page.expect_response("**/create_flow_run", timeout=_LONGEST) as answer:
                self.press_submit()
            if answer.value.status != 503:
                return answer.value.status, answer.value.json()
        raise AssertionError("503, ten times")

    def press_submit(self) -> None:
        """Press the button, whatever the answer."""
        self.page.get_by_role("button", name="Submit").last.click()

    def _add_items(self, field: Locator, items: list[str]) -> None:
        for place, item in enumerate(items):
            added = field.locator("textarea, input").nth(place)

            def is_there(added: Locator = added) -> bool:
                field.get_by_role("button", name="Add item").click()
                return _shows(added)

            wait_until(is_there, what=f"a field for item {place + 1}")
            added.fill(item)

    def _choose(self, field: Locator, option: str) -> None:
        wanted = self.page.get_by_role("option").get_by_text(option, exact=True)

        def is_open() -> bool:
            if self.ui == "V1":  # a click opens and, as one on its label, closes it again
                field.locator(".p-select-button__control").first.focus()
                self.page.keyboard.press("ArrowDown")
            else:
                field.locator("[role=combobox], button.w-full").first.click()
            if not _shows(wanted):
                self.page.keyboard.press("Escape")
                return False
            return True

        wait_until(is_open, what=f"the list with {option} is open")
        wanted.click()
        # A list of which several may be chosen stays open.
        self.page.keyboard.press("Escape")
        self.page.mouse.click(2, 2)

    def _pick_a_time(self, field: Locator) -> None:
        """Of today: now in V1, this morning in V2."""
        if self.ui == "V1":
            field.locator(".p-date-button__control").click()
            picker = self.page.locator(".p-date-picker")
            picker.get_by_role("button", name="Now").click()
            picker.get_by_role("button", name="Apply").click()
            return
        field.locator("button[aria-haspopup=dialog]").first.click()
        self.page.locator("[data-today=true] button, button[aria-label^=Today]").first.click()
        self.page.keyboard.press("Escape")
