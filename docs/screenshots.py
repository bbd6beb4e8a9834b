"""Screenshots of a report page, made with headless Chromium: desktop, phone and dark.

    python docs/screenshots.py leaderboards/digits.html

writes `docs/report-desktop.png`, `docs/report-phone.png` and `docs/report-dark.png`. Needs
`pip install 'nfbench[browser]'`, a Chromium and its chromedriver.
"""

from __future__ import annotations

import argparse
import base64
import shutil
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VIEWS = {
    "desktop": (1360, 1000, 1, "light"),
    "phone": (375, 812, 2, "light"),
    "dark": (1360, 1000, 1, "dark"),
}
"""Width, height, scale and colour scheme."""


def browser(**preferences: str) -> Any:
    """A headless Chromium with a profile of its own, or None if there is none on the path.

    Args:
        preferences: CSS media features, such as `color_scheme="dark"`.
    """
    from selenium import webdriver

    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if found is None or driver is None:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for flag in FLAGS:
        options.add_argument(flag)
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    features = {"prefers-reduced-motion": "reduce"}
    features |= {f"prefers-{name.replace('_', '-')}": value for name, value in preferences.items()}
    media = [{"name": name, "value": value} for name, value in features.items()]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    return opened


def resize(opened: Any, width: int, height: int, scale: float = 1) -> None:
    """Make the page as wide and high as a screen, below the least width of a window, too."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def screenshots(page: Path, folder: Path, *, whole: bool = False, at: str = "") -> list[Path]:
    """One picture a view.

    Args:
        page: the HTML file.
        folder: where the pictures go.
        whole: the whole page instead of one screen of it.
        at: the id of a section to show.

    Raises:
        SystemExit: if there is no browser.
    """
    written = []
    for name, (width, height, scale, scheme) in VIEWS.items():
        opened = browser(color_scheme=scheme)
        if opened is None:
            raise SystemExit("no Chromium and chromedriver on the path")
        with opened:
            resize(opened, width, height, scale)
            opened.get(page.resolve().as_uri() + (f"#{at}" if at else ""))
            asked = {"format": "png", "captureBeyondViewport": whole}
            if whole:
                long = opened.execute_script("return document.documentElement.scrollHeight")
                asked["clip"] = {"x": 0, "y": 0, "width": width, "height": long, "scale": 1}
            taken = opened.execute_cdp_cmd("Page.captureScreenshot", asked)
            target = folder / f"report-{at + '-' if at else ''}{name}.png"
            target.write_bytes(base64.b64decode(taken["data"]))
            written.append(target)
    return written


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    parser.add_argument("--whole", action="store_true", help="the whole page, not one screen of it")
    parser.add_argument("--at", default="", help="id of the section to show")
    asked = parser.parse_args()
    screenshots(asked.page, asked.folder, whole=asked.whole, at=asked.at)


if __name__ == "__main__":
    main()
