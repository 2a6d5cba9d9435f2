#!/usr/bin/env python3
"""Opens reports in headless Chromium at phone and desktop width, light and dark: no console error, no request, nothing overflowing.

    pip install playwright && playwright install chromium
    scripts/check_report.py report.html [--chromium PATH] [--pictures DIR]

CI has no browser; there, tests/report.rs reads the pages. Exit 1 if anything is found."""

import argparse
import pathlib
import sys

from playwright.sync_api import sync_playwright

WIDTHS = (360, 1280)

# What stands out of the page, but for what scrolls in a box of its own.
OVERFLOWING = """() => {
    document.querySelectorAll('details').forEach(each => each.open = true);
    const width = document.documentElement.clientWidth;
    const beyond = [...document.querySelectorAll('body *')].filter(each => {
        const box = each.getBoundingClientRect();
        return box.width > 0 && (box.right > width + 1 || box.left < -1) && !each.closest('.scroll, pre');
    });
    const found = beyond.map(each => `${each.tagName}.${each.getAttribute('class')}: ${each.textContent.slice(0, 40)}`);
    return document.documentElement.scrollWidth > width ? ['the page itself', ...found] : found;
}"""


def check(browser, report, width, scheme, pictures):
    """What is wrong with `report` at this width and in these colours."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, found, address = context.new_page(), [], report.resolve().as_uri()
    page.on("console", lambda message: found.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("request", lambda request: request.url == address or found.append(f"request: {request.url}"))
    page.goto(address)
    found += [f"overflows: {each}" for each in page.evaluate(OVERFLOWING)]
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pictures / f"{report.stem}-{width}-{scheme}.png", full_page=True)
    context.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=pathlib.Path)
    parser.add_argument("--chromium", help="the browser to run, where it is not playwright's")
    parser.add_argument("--pictures", type=pathlib.Path, help="a folder for screenshots")
    arguments = parser.parse_args()
    bad = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        for report in arguments.reports:
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    found = check(browser, report, width, scheme, arguments.pictures)
                    print(f"{report} {width} px {scheme}: {len(found)} findings", *found, sep="\n  ")
                    bad += len(found)
        browser.close()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
