#!/usr/bin/env python3
"""One command for everything: sets the project up in `.venv`, then runs what you asked for.

    python3 kd.py quickstart      train a teacher, distil a student on real data, see the table
    python3 kd.py test [...]      run the tests (what follows goes to pytest)
    python3 kd.py check           lint, format and type checks
    python3 kd.py run COMMAND     run a command of the environment: `python3 kd.py run kdfuse ui`
    python3 kd.py setup           only set up
    python3 kd.py lock            write requirements.lock anew from pyproject.toml

Needs Python 3.11 to 3.13 with pip. Installs into this folder only (uv also keeps its cache of downloads). The first call
downloads roughly 0.8 GB and takes 3 GB of disk; later calls start at once.
"""  # This file is also read by old Pythons, to tell them so: no new syntax.

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(ROOT, ".tools")
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements.lock")
STAMP = os.path.join(VENV, "kd-stamp")
SCRIPTS = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(SCRIPTS, "python.exe" if os.name == "nt" else "python")

CHECKS = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])


def main(arguments):
    """Set up, then run; the exit status is that of the command."""
    task, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if task in ("help", "-h", "--help"):
        print(__doc__.strip())
        return 0
    if task not in ("quickstart", "test", "check", "run", "setup", "lock") or (task == "run" and not rest):
        return fail("`" + " ".join(["kd.py", *arguments]) + "` is not a command.", __doc__.strip())
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return wrong_python(arguments)
    problem = set_up()
    if problem:
        return problem
    if task == "quickstart":
        return run([PYTHON, os.path.join("recipes", "quickstart.py"), *rest])
    if task == "test":
        return run([PYTHON, "-m", "pytest", *rest])
    if task == "check":
        return max([subprocess.call([PYTHON, "-m", *command], cwd=ROOT, env=environment()) for command in CHECKS])
    if task == "run":
        found = shutil.which(rest[0], path=environment()["PATH"])
        return run([found, *rest[1:]], folder=None) if found else fail("The environment has no command `" + rest[0] + "`.")
    if task == "lock":
        return lock()
    print("kdfuse is set up in " + VENV)
    return 0


def set_up():
    """Make `.venv` from the lock, unless it is there already. Returns an exit status, 0 if all is well."""
    wanted = stamp()
    if read(STAMP) == wanted:
        return 0
    os.makedirs(TOOLS, exist_ok=True)
    with one_at_a_time():
        if read(STAMP) == wanted:
            return 0
        settings = os.path.join(VENV, "pyvenv.cfg")
        if os.path.lexists(VENV) and "prompt = kdfuse" not in read(settings):
            return fail("`.venv` exists and was not made by kd.py.", "Move it away or delete it, then run this again.")
        uv = find_uv()
        if not uv:
            return 1
        say("installing the locked packages into .venv")
        install = [uv, "pip", "install", "--python", PYTHON, *([] if sys.stderr.isatty() else ["--quiet"])]
        for command in (
            [uv, "venv", "--quiet", "--clear", "--prompt", "kdfuse", "--python", sys.executable, VENV],
            [*install, "--require-hashes", "--requirement", LOCK],
            [*install, "--no-deps", "--no-build-isolation", "--editable", ROOT],
        ):
            if subprocess.call(command, cwd=ROOT, env=install_environment()):
                return fail(
                    "The installation did not end well; uv says why above.",
                    "It needs the network (or a mirror: that of pip's settings is used, or set UV_DEFAULT_INDEX) and 3 GB of free disk.",
                    f"Free here: {shutil.disk_usage(ROOT).free / 1e9:.1f} GB. Run this again to try anew.",
                )
        with open(STAMP, "w", encoding="utf-8") as file:
            file.write(wanted)
    return 0


def find_uv():
    """The path of uv, fetched through pip with the hashes of the lock; None if that failed."""
    block = re.search(r"^uv==(?:.*\\\n)+.*\n", read(LOCK), re.MULTILINE)
    requirement = os.path.join(TOOLS, "uv.txt")
    uv = os.path.join(TOOLS, "bin", "uv.exe" if os.name == "nt" else "uv")
    if block and os.path.exists(uv) and read(requirement) == block.group():
        return uv
    if subprocess.call([sys.executable, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        if shutil.which("uv"):
            return shutil.which("uv")
        fail(
            "This Python has no pip: " + sys.executable,
            "Install it (Debian and Ubuntu: apt install python3-pip; others: python3 -m ensurepip) or install uv, then run this again.",
        )
        return None
    say("fetching the installer (uv) into .tools")
    # The requirement is left under its final name only after success: it says which uv is there.
    with open(requirement + ".new", "w", encoding="utf-8") as file:
        file.write(block.group())
    # A folder of our own is allowed also where the system's Python refuses installations (PEP 668).
    options = "--quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore --retries 2 --upgrade --no-deps"
    options += " --only-binary :all: --require-hashes"
    pip = [sys.executable, "-m", "pip", "install", *options.split(), "--target", TOOLS, "--requirement", requirement + ".new"]
    env = {name: value for name, value in os.environ.items() if name not in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")}
    if subprocess.call(pip, env=dict(env, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0")) or not os.path.exists(uv):
        fail(
            "pip could not fetch uv; it says why above.",
            "It needs the network. Behind a mirror or a proxy, set PIP_INDEX_URL or HTTPS_PROXY, then run this again.",
        )
        return None
    os.replace(requirement + ".new", requirement)
    return uv


def install_environment():
    """The environment for uv. uv does not read pip's settings: the mirror, the proxy and the certificate are handed on."""
    against = ("UV_SYSTEM_PYTHON", "UV_PYTHON", "UV_REQUIRE_HASHES", "UV_TARGET", "UV_PREFIX")
    env = {name: value for name, value in os.environ.items() if name not in against}
    env.update(UV_COMPILE_BYTECODE="1", UV_PYTHON_DOWNLOADS="never", VIRTUAL_ENV=VENV)
    pip = pip_settings()
    if "index-url" in pip and "UV_INDEX_URL" not in env:
        env.setdefault("UV_DEFAULT_INDEX", pip["index-url"])
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        env.setdefault("UV_NO_INDEX", "1")
        env.setdefault("UV_FIND_LINKS", ",".join(pip.get("find-links", "").split()))
    if "proxy" in pip:
        env.setdefault("ALL_PROXY", pip["proxy"])
    if "trusted-host" in pip:
        env.setdefault("UV_INSECURE_HOST", " ".join(pip["trusted-host"].split()))
    if os.path.isfile(pip.get("cert", "")):
        env.setdefault("SSL_CERT_FILE", pip["cert"])
    return env


def pip_settings():
    """The settings of pip by name: those of the environment over those for `install` over the global ones."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = {}
    lines = re.findall(r"^(global|install|:env:)\.([\w-]+)='(.*)'$", listed.stdout.decode(errors="replace"), re.MULTILINE)
    for section in ("global", "install", ":env:"):
        found.update({name: value.replace("\\n", " ") for part, name, value in lines if part == section})
    return found


def lock():
    """Resolve anew, for all supported Pythons and platforms, with hashes and without the address of any index."""
    command = "pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade --quiet"
    command += " --no-emit-index-url --no-annotate --no-header --output-file requirements.lock"
    return subprocess.call([find_uv(), *command.split()], cwd=ROOT, env=install_environment())


def environment():
    """The environment of a command: that of the caller, with `.venv` in front."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    return dict(env, VIRTUAL_ENV=VENV, PATH=SCRIPTS + os.pathsep + env.get("PATH", os.defpath))


def run(command, folder=ROOT):
    """Become the command (on Windows, wait for it)."""
    if os.name == "nt":
        return subprocess.call(command, cwd=folder, env=environment())
    os.chdir(folder or os.getcwd())
    sys.stdout.flush()
    return os.execve(command[0], command, environment())


def stamp():
    """What `.venv` depends on: the lock, the project's description (not the settings of tools), the Python, where this folder is."""
    project = read(os.path.join(ROOT, "pyproject.toml")).split("[tool.ruff]")[0]
    parts = [read(LOCK), project, sys.version, ROOT]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read(path):
    """The text of a file, empty if there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


@contextlib.contextmanager
def one_at_a_time():
    """Let a second call wait while the first one installs."""
    with open(os.path.join(TOOLS, "busy"), "w", encoding="utf-8") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def wrong_python(arguments):
    """Say which Python is needed, and which of them is there."""
    names = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
    mend = " ".join(["Run:", names[0], "kd.py", *arguments]) if names else "Install one of them, then run kd.py with it."
    return fail(f"kdfuse needs Python 3.11, 3.12 or 3.13. This is Python {sys.version.split()[0]} ({sys.executable}).", mend)


def say(text):
    """Tell what goes on, on the error stream: the output is the command's own."""
    print("kd.py: " + text, file=sys.stderr, flush=True)


def fail(*lines):
    """Tell what is wrong and how to mend it. Returns the exit status."""
    say("\n".join(lines))
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
