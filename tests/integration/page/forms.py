"""What a person does with the mouse and the keyboard in forms and dialogs of the page."""

import base64
from typing import Any, cast

from playwright.sync_api import Locator, Page

# The browser makes such a list of files of what is dropped.
DROP = """(zone, files) => {
    const transfer = new DataTransfer();
    for (const [name, text] of files) {
        const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name));
    }
    for (const kind of ["dragover", "drop"])
        zone.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true}));
}"""


def drop(zone: Locator, files: dict[str, bytes]) -> None:
    zone.evaluate(DROP, [[name, base64.b64encode(data).decode()] for name, data in files.items()])


def fill(page: Page, values: dict[str, Any]) -> None:
    """Fill a form by the paths of its fields, as a person does."""
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    for path, value in values.items():
        if path == "or":
            page.get_by_role("radio", name=value).check(force=True)
            continue
        field = page.locator(f"[data-path='{path}']")
        match value:
            case bool():
                field.get_by_role("checkbox").check()
            case dict():
                for name, text in cast("dict[str, str]", value).items():
                    field.get_by_role("button", name="Add").click()
                    row = field.locator(".pair").last
                    row.locator("input").first.fill(name)
                    row.locator("input, textarea").last.fill(text)
            case list():
                fill_list(field, cast("list[str]", value))
            case _ if field.locator("select").count():
                field.locator("select").select_option(value)
            case _:
                field.locator("input:not([type=file]), textarea").first.fill(value)


def fill_list(field: Locator, items: list[str]) -> None:
    for item in items:
        if box := field.get_by_role("checkbox", name=item).all():
            box[0].check()
            continue
        field.get_by_role("button", name="Add").click()
        field.locator("input").last.fill(item)


def act(page: Page, what: str, sure: str) -> None:
    page.get_by_role("button", name=what, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=sure).click()
