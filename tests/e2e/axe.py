"""axe-core, which looks for what keeps people from using a page: fetched from npm's registry, checked, kept in var/."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import subprocess
import tarfile

from tests.processes import ROOT

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="

ARCHIVE = ROOT / "var" / f"axe-core-{VERSION}.tgz"
RUN = """
const done = arguments[arguments.length - 1];
const options = {
  resultTypes: ["violations"],
  rules: {"target-size": {enabled: true}},  // all rules, and WCAG 2.2's
  preload: false,  // it would copy what a stylesheet imports into the page, which the policy blocks
};
requestAnimationFrame(() => requestAnimationFrame(() => {
  for (const animation of document.getAnimations()) animation.finish();  // or it sees colours on their way
  axe.run(document, options).then(
    (results) => done(results.violations),
    (error) => done([{id: "error", help: String(error), nodes: []}]));
}));
"""
"""What runs in the page, as an asynchronous script of WebDriver, after `source`; see `told` for what it returns."""


def source() -> str:
    """Return the script. npm fetches it where it is missing, from whichever registry it is set up for.

    Raises RuntimeError where that cannot be done or gives another file than the one that this module names.
    """
    ARCHIVE.parent.mkdir(exist_ok=True)
    with (ARCHIVE.parent / "axe-core.lock").open("w") as lock:  # two processes of tests may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ARCHIVE.exists():
            fetch()
    if problem := wrong_with(ARCHIVE.read_bytes()):
        raise RuntimeError(f"{ARCHIVE}: {problem} Delete it and try again.")
    with tarfile.open(ARCHIVE) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script
        return script.read().decode()


def fetch() -> None:
    """Let npm put the archive into var/. Nothing of it is installed or run."""
    command = ["npm", "pack", f"axe-core@{VERSION}", "--ignore-scripts", "--pack-destination", str(ARCHIVE.parent)]
    try:
        subprocess.run(command, cwd=ARCHIVE.parent, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError:
        raise RuntimeError("npm is missing; it fetches axe-core, which the browser tests need.") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"npm could not fetch axe-core {VERSION}: {error.stderr}") from None


def wrong_with(archive: bytes) -> str:
    """Return what is wrong with an archive; nothing if it is the one that was looked at when VERSION was chosen."""
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    return "" if digest == SHA512 else f"its SHA-512 is {digest}, not {SHA512}."


def told(violation: dict) -> str:
    """Return the rule that is broken, where, and how to mend it."""
    nodes = [
        f"\n  {' '.join(map(str, node['target']))}: {node['html'][:200]}\n  {node['failureSummary']}"
        for node in violation["nodes"]
    ]
    return f"{violation['id']}: {violation['help']}{''.join(nodes)}"
