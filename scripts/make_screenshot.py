"""Takes the picture of a report for the README, in headless Chromium (Debian: chromium):

python scripts/make_screenshot.py outputs/demo [docs/pictures/report.png]
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 1200, 1080
NAMES = ("chromium", "chromium-browser", "google-chrome")


def shoot(page: Path, target: Path) -> None:
    """Write the top of `page` as PNG."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        raise SystemExit(f"None of {', '.join(NAMES)} is installed.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        command += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"]
        command += [f"--screenshot={target.absolute()}", page.absolute().as_uri()]
        subprocess.run(command, check=True, timeout=60, capture_output=True)


def main(words: list[str]) -> None:
    """Take the picture of the report in a comparison's directory."""
    if not words:
        raise SystemExit(__doc__)
    page = Path(words[0]) / "report" / "report.html"
    if not page.is_file():
        raise SystemExit(f"{page} is not there: headstart report {words[0]}")
    target = Path(words[1] if len(words) > 1 else "docs/pictures/report.png")
    shoot(page, target)
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
