"""The checks of one client: each a name and a function that raises, or returns what was seen. Prints a line a check:
client, capability, ok or FAIL or "not served", and a detail, with tabs between."""

import json
import os
import re
import sys
import traceback
import urllib.parse
import urllib.request

BASE = os.environ["MODELS_URL"]
TOKEN = os.environ["TOKEN"]
ACCOUNT = os.environ["ACCOUNT_ID"]
CHAT = "@cf/meta/llama-3.1-8b-instruct"
EMBED = "@cf/baai/bge-base-en-v1.5"
WHISPER = "@cf/openai/whisper"
TRANSLATE = "@cf/meta/m2m100-1.2b"
IMAGE = "@cf/stabilityai/stable-diffusion-xl-base-1.0"


class NotServed(Exception):
    pass


def want(ok, seen):
    if not ok:
        raise AssertionError(f"not as wanted: {seen!r}"[:300])


def served(model):
    """Raise NotServed where the host has no engine for the model."""
    url = f"{BASE}/client/v4/accounts/{ACCOUNT}/ai/models/search?search={urllib.parse.quote(model)}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request) as answer:
        found = [m for m in json.load(answer)["result"] if m["name"] == model]
    properties = {p["property_id"]: p["value"] for m in found for p in m["properties"]}
    if properties.get("served") != "true":
        raise NotServed(properties.get("setup", "not in the catalogue"))


def recording():
    with open(os.environ["RECORDING"], "rb") as f:
        return f.read()


def recognised(text):
    want(re.search(os.environ["RECORDED"], text, re.I), text)
    return text


def clean(text):
    return re.sub(r"\s+", " ", str(text))[:200]


def checks(client, **functions):
    failed = False
    for name, run in functions.items():
        try:
            line = ["ok", run() or ""]
        except NotServed as e:
            line = ["not served", e]
        except Exception as e:
            failed = True
            line = ["FAIL", f"{type(e).__name__}: {e}"]
            if os.environ.get("DEBUG"):
                traceback.print_exc()
        print("\t".join(clean(c) for c in [client, name.replace("_", " "), *line]), flush=True)
    sys.exit(failed)
