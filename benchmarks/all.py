"""Every benchmark, made quick, one after another; or every table of the documentation, from the committed results.

python benchmarks/all.py              runs each with --quick: to see that all of them run; nothing is kept
python benchmarks/all.py --tables     writes each table anew from `benchmarks/results/`; where there are none, its place stays
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = ("all", "common", "hinton_table")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true")
    tables = parser.parse_args().tables
    failed = []
    for script in sorted(path for path in HERE.glob("*.py") if path.stem not in HELPERS):
        if tables and not (HERE / "results" / f"{script.stem}.json").exists():
            continue
        begun = time.monotonic()
        code = subprocess.call([sys.executable, str(script), "--table" if tables else "--quick"])
        print(f"{script.name}: {'done' if code == 0 else f'failed with code {code}'} in {time.monotonic() - begun:.0f} s", flush=True)
        failed += [script.name] if code else []
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
