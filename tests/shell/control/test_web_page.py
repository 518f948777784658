"""The page's files as control serves them: what they may do, and what they may never hold."""

from __future__ import annotations

import re
from pathlib import Path

from control.web.pages import INDEX, POLICY, read
from tests.shell.control import kit

ENGINES = ("sqlite",)
NOWHERE = "http://127.0.0.1:9"
PAGES = read()
TEXTS = {name: page.body.decode() for name, page in PAGES.items()}
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}


async def test_every_file_comes_with_its_type_and_a_policy_that_lets_nothing_else_in(tmp_path: Path) -> None:
    async with kit.control(kit.settings(tmp_path, NOWHERE)) as client:
        for name, page in PAGES.items():
            async with client.http.get(client.url + ("/" if name == INDEX else f"/web/{name}")) as response:
                assert response.status == 200
                assert response.content_type == page.content_type
                assert response.headers["Content-Security-Policy"] == POLICY
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Referrer-Policy"] == "no-referrer"
                assert await response.read() == page.body


async def test_a_file_that_the_browser_has_is_not_sent_again(tmp_path: Path) -> None:
    async with kit.control(kit.settings(tmp_path, NOWHERE)) as client:
        async with client.http.get(client.url + "/web/main.js") as first:
            tag = first.headers["ETag"]
        async with client.http.get(client.url + "/web/main.js", headers={"If-None-Match": tag}) as second:
            assert (second.status, await second.read()) == (304, b"")
            assert second.headers["Content-Security-Policy"] == POLICY


async def test_no_path_leads_out_of_the_page(tmp_path: Path) -> None:
    async with kit.control(kit.settings(tmp_path, NOWHERE)) as client:
        for path in ("/web/", "/web/..%2fpages.py", "/web/%2e%2e/pages.py", "/web/pages.py", "/web/main.js/"):
            async with client.http.get(client.url + path) as response:
                assert response.status == 404, path


async def test_the_page_is_shown_without_a_token_and_what_it_asks_for_is_not(tmp_path: Path) -> None:
    tokens = [{"name": "viewer", "token": "tok-viewer-0123456789", "scopes": ["read"]}]
    async with kit.control(kit.settings(tmp_path, NOWHERE, tokens=tokens)) as client:
        assert "<title>Trunkside</title>" in await client.get("/")
        await client.get("/v1/calls", 401)


def test_nothing_turns_text_into_markup_or_script() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    forbidden = re.compile(markup + r"|\beval\(|new Function|setTimeout\(['\"`]")
    assert {name: found for name, text in SCRIPTS.items() if (found := forbidden.findall(text))} == {}


def test_the_policy_forbids_inline_code_and_other_hosts() -> None:
    directives = {name: values for name, *values in (each.split() for each in POLICY.split(";"))}
    assert directives["default-src"] == ["'none'"]
    assert directives["require-trusted-types-for"] == ["'script'"]
    assert all("unsafe" not in value and "http" not in value and value != "*" for values in directives.values() for value in values)


def test_the_document_has_nothing_inline_and_names_only_files_that_there_are() -> None:
    index = TEXTS[INDEX]
    assert not re.search(r"<style|\son[a-z]+=|style=|<script(?![^>]*\bsrc=)", index)
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', index)) - {""}
    assert {path.removeprefix("/web/") for path in named} <= set(PAGES)


def test_modules_import_only_each_other_and_every_one_is_used() -> None:
    imports = {name: set(re.findall(r'from "\./([^"]+)"', text)) for name, text in SCRIPTS.items()}
    assert all(target in SCRIPTS for targets in imports.values() for target in targets)
    reached, waiting = set(), {"main.js", "theme.js"}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= imports[name] - reached
    assert reached == set(SCRIPTS)


def test_no_file_names_another_host() -> None:
    known = {"http://www.w3.org/2000/svg"}
    assert {url for text in TEXTS.values() for url in re.findall(r"https?://[^\s\"'`)<]+", text)} <= known


def test_a_module_is_one_thought() -> None:
    assert {name: count for name, text in TEXTS.items() if (count := text.count("\n")) > 350} == {}
