#!/usr/bin/python3
"""pictures.py OUT FILE... - mails (.eml), pages (.html) and what a terminal was sent (.ansi, terminals.sh) as people see them: PNG, light
and dark, wide and narrow.

Drawn by Chromium without its own network: pictures of a mail come by CID, and those of anywhere else would be missing.
"""

import base64
import email
import email.policy
import html
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

WIDTHS = {"wide": 1000, "narrow": 380}
# As Blink's settings number them.
SCHEMES = {"light": 1, "dark": 0}
HIGHEST = 15000
# The page is drawn in a frame of the width wanted, since windows have a least width, and says how high it came out.
FRAME = """<!doctype html><meta charset="utf-8"><style>html, body {{ margin: 0; background: Canvas; color-scheme: {scheme} }}
iframe {{ border: 0; width: {width}px; height: 100px; display: block }}</style><iframe srcdoc="{page}"></iframe><script>
const frame = document.querySelector("iframe");
onload = () => {{ const height = frame.contentDocument.documentElement.scrollHeight;
frame.style.height = height + "px"; document.documentElement.dataset.height = height; }};</script>"""


# Those of the codes of a terminal that pgbosun writes (ECMA-48, SGR).
STYLES = {"1": "font-weight: bold", "2": "opacity: 0.6", "31": "color: #d33", "32": "color: #393", "33": "color: #a70", "36": "color: #188"}


def terminal(text):
    """What a terminal shows, as HTML. Codes that it does not know stay to be seen."""
    parts = re.split(r"\x1b\[([0-9;]*)m", text.replace("\r\n", "\n"))
    page, style = html.escape(parts[0]), []
    for codes, words in zip(parts[1::2], parts[2::2]):
        for code in codes.split(";"):
            style = [] if code in ("", "0") else [*style, STYLES.get(code, f"outline: 1px solid red; /* {code} */")]
        page += f'<span style="{"; ".join(style)}">{html.escape(words)}</span>'
    return f'<pre style="font: 13px/1.3 DejaVu Sans Mono, monospace; width: 80ch; white-space: pre-wrap; word-break: break-all; padding: 1ch; color: CanvasText">{page}</pre>'


def page_of(path):
    """The HTML of a file; of a mail with its pictures in it, under its subject."""
    if path.suffix == ".ansi":
        return terminal(path.read_text(errors="replace"))
    if path.suffix != ".eml":
        return path.read_text()
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    pictures = {}
    text = None
    for part in mail.walk():
        if part.get("Content-ID"):
            data = base64.b64encode(part.get_content()).decode()
            pictures[part["Content-ID"].strip("<>")] = f"data:{part.get_content_type()};base64,{data}"
        elif part.get_content_type() == "text/html" and not part.is_attachment():
            text = part.get_content()
    if text is None:
        text = "<pre>" + html.escape(mail.get_body(("plain",)).get_content()) + "</pre>"
    return re.sub(r"cid:([^\"']+)", lambda found: pictures.get(found[1], found[0]), text)


def chromium(profile, scheme, width, height, *arguments):
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1",
        f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--window-size={width},{height}", *arguments,
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def install_chromium():
    as_root = [] if os.getuid() == 0 else ["sudo"]
    subprocess.run([*as_root, "apt-get", "-q", "update"], check=True)
    subprocess.run([*as_root, "apt-get", "-q", "-y", "install", "--no-install-recommends", "chromium", "fonts-dejavu-core"], check=True)


def main():
    if not shutil.which("chromium"):
        install_chromium()
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for path in map(pathlib.Path, sys.argv[2:]):
            page = html.escape(page_of(path), quote=True)
            for shape, width in WIDTHS.items():
                for scheme in SCHEMES:
                    frame = pathlib.Path(scratch, "frame.html")
                    frame.write_text(FRAME.format(page=page, width=width, scheme=scheme))
                    room = max(width, 500)
                    told = chromium(scratch, scheme, room, 800, "--dump-dom", frame.as_uri())
                    found = re.search(r'data-height="(\d+)"', told)
                    if not found:
                        sys.exit(f"pictures.py: {path} was not drawn")
                    height = min(max(int(found[1]), 400), HIGHEST)  # a lower window is not drawn to its end
                    picture = out / f"{path.stem}.{shape}.{scheme}.png"
                    chromium(scratch, scheme, room, height, f"--screenshot={picture}", frame.as_uri())
                    print(picture)


main()
