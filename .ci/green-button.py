"""Reads what the built engine exports as Green Button with greenbutton_objects, a reader that others wrote, and holds its
sums against what was pushed: python3 .ci/green-button.py (the reader on PYTHONPATH, dist/ built). Status 1 where they differ.
"""
import collections
import datetime as dt
import decimal
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from greenbutton_objects.parse import parse_feed

# Three local days with the night in which clocks go back between them.
START = dt.datetime(2025, 11, 1, 5, tzinfo=dt.timezone.utc)
QUARTERS = 96 + 100 + 96
RANGE = "from=2025-11-01&to=2025-11-04"


def blocks():
    """What is pushed: (meter, flow, interval in seconds, kWh as texts, None where there is no read)."""
    house = [None if i % 50 == 7 else f"0.{100 + i}" for i in range(QUARTERS)]
    return [
        ("HOUSE", "delivered", 900, house),
        ("HOUSE", "received", 900, [None if v is None else "0.001" for v in house]),
        ("BARN", "delivered", 3600, ["0.00001", "12.5", "0.00003"]),
    ]


def call(url, key, method, path, body=None, kind="application/json"):
    request = urllib.request.Request(url + path, method=method, data=body, headers={"authorization": f"Bearer {key}", "content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()
    except urllib.error.HTTPError as err:
        raise SystemExit(f"{method} {path} answered {err.code}: {err.read().decode()}") from err


def fill(url, key):
    call(url, key, "PUT", "/v1/accounts", json.dumps([{"account": "HOME"}]).encode())
    call(url, key, "PUT", "/v1/meters", json.dumps([
        {"meter": "HOUSE", "account": "HOME", "from": "2025-01-01T00:00:00-06:00", "flows": ["delivered", "received"]},
        {"meter": "BARN", "account": "HOME", "from": "2025-01-01T00:00:00-06:00"}]).encode())
    rows = ["meter,start,intervalSeconds,flow,value"]
    for meter, flow, seconds, values in blocks():
        rows += [f"{meter},{(START + dt.timedelta(seconds=i * seconds)).isoformat()},{seconds},{flow},{v}" for i, v in enumerate(values) if v is not None]
    receipt = json.loads(call(url, key, "POST", "/v1/reads", "\n".join(rows).encode(), "text/csv"))
    if receipt["stored"] != len(rows) - 1:
        raise SystemExit(f"of {len(rows) - 1} reads were stored: {receipt}")


def pushed_sums():
    sums = {}
    for meter, flow, _, values in blocks():
        reads = [decimal.Decimal(v) for v in values if v is not None]
        sums[meter, flow] = (len(reads), sum(reads))
    return sums


def read_sums(path):
    """Reads and kWh by usage point and flow, as the other reader has them; its own float of a value is checked beside."""
    sums = collections.defaultdict(lambda: (0, decimal.Decimal(0)))
    for point in parse_feed(path):
        for reading in point.meterReadings:
            kind = reading.readingType
            if kind.uom.name != "wattHours":
                raise SystemExit(f"the unit of {reading} is {kind.uom.name}")
            flow = {"forward": "delivered", "reverse": "received"}[kind.flowDirection.name]
            for read in reading.intervalReadings:
                wh = decimal.Decimal(read._value).scaleb(kind.powerOfTenMultiplier or 0)
                if abs(float(wh) - read.value) > 1e-9 * max(1, abs(read.value)):
                    raise SystemExit(f"{read} is {wh} Wh by its whole number and multiplier")
                count, total = sums[point.title, flow]
                sums[point.title, flow] = (count + 1, total + wh / 1000)
    return dict(sums)


def check(url, key, folder):
    fill(url, key)
    feed = folder / "home.xml"
    feed.write_bytes(call(url, key, "GET", f"/v1/accounts/HOME/green-button?{RANGE}"))
    pushed, got = pushed_sums(), read_sums(str(feed))
    for name in sorted(pushed.keys() | got.keys()):
        print(*name, "pushed", *pushed.get(name, ("nothing",)), "read", *got.get(name, ("nothing",)))
    if pushed != got:
        raise SystemExit("the independent reader has other sums than were pushed")


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory(prefix="meterline-peer-") as name:
        folder = pathlib.Path(name)
        env = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
        env |= {"METERLINE_DIR": str(folder / "engine"), "PORT": "0", "HOST": "127.0.0.1", "UTILITY_ZONE": "America/Chicago", "WORKERS": "1"}
        engine = subprocess.Popen(["node", str(root / "dist/meterline.js"), "serve"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            said = ""
            for line in engine.stderr:
                said += line
                found = re.search(r'"url":"(http[^"]+)"', line)
                if found:
                    break
            else:
                raise SystemExit(f"the engine did not start: {said}")
            check(found[1], (folder / "engine/operator-key").read_text().strip(), folder)
        finally:
            engine.terminate()
            engine.communicate(timeout=60)


if __name__ == "__main__":
    sys.exit(main())
