"""A stand-in for vLLM: opens the weights with the reader that it uses, then answers HTTP.

``vllm serve DIRECTORY --port PORT`` (or ``--model DIRECTORY``): every tensor of every
``*.safetensors`` below DIRECTORY is read whole, then GET of any path answers with the seconds that
took, the tensors and the bytes.
"""

import argparse
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from safetensors import safe_open

parser = argparse.ArgumentParser(prog="vllm")
parser.add_argument("command", choices=["serve"])
where = parser.add_mutually_exclusive_group(required=True)
where.add_argument("directory", type=Path, nargs="?")
where.add_argument("--model", type=Path)
parser.add_argument("--port", type=int, default=8000)
arguments = parser.parse_args()
begin = time.monotonic()
held = []
directory = arguments.directory or arguments.model
for file in sorted(directory.rglob("*.safetensors")):
    with safe_open(file, framework="np") as weights:
        held += [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118 - no mapping
if not held:
    sys.exit(f"no weights below {directory}")
LOADED = {
    "seconds": round(time.monotonic() - begin, 3),
    "tensors": len(held),
    "bytes": sum(tensor.nbytes for tensor in held),
}


class Handler(BaseHTTPRequestHandler):
    """Says what was loaded."""

    def do_GET(self) -> None:
        body = json.dumps(LOADED).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


print(json.dumps(LOADED), flush=True)
HTTPServer(("", arguments.port), Handler).serve_forever()
