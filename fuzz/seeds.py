#!/usr/bin/env python3
"""Writes the seeds of every target: seeds.py OUT [VECTORS].

The repository holds them as text: `.hex` for bytes, PEM for certificates and requests. Published vectors are read
where they lie and never copied into the repository.
"""

import base64
import hashlib
import json
import pathlib
import re
import sys

PEM = re.compile(rb"-----BEGIN [A-Z ]+-----\s+([A-Za-z0-9+/=\s]+?)-----END")


def save(target, data):
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def pem(data):
    """The DER of each block; what is not PEM is taken as it is."""
    found = [re.sub(rb"\s", b"", body) for body in PEM.findall(data)]
    return [base64.b64decode(body + b"=" * (-len(body) % 4)) for body in found] or [data]


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def members(value, name):
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from members(item, name)
    if isinstance(value, dict) and name in value:
        yield value[name]


def own(root):
    for path in sorted(root.glob("*/*")):
        target, data = path.parent.name, path.read_bytes()
        if path.suffix == ".hex":
            save(target, bytes.fromhex(data.decode()))
        elif path.suffix == ".pem":
            save(target, pem(data)[0])
        else:
            save(target, data.removesuffix(b"\n"))


def published(vectors):
    for case in json.loads((vectors / "spiffe-spec/spiffe_ids.json").read_text()):
        save("spiffe", case["id"].encode())
    jws = json.loads((vectors / "wycheproof/json_web_signature_test.json").read_text())
    rfc = json.loads((vectors / "rfc-oauth/samples.json").read_text())
    for text in [*strings(jws), *strings(rfc)]:
        if text.count(".") == 2 and " " not in text:
            save("jwt", text.encode())
    for name in ("claims", "subject_claims", "access_token_claims"):
        for claims in members(rfc, name):
            save("claims", json.dumps(claims).encode())
    for text in members(rfc["set_payload_rejects"], "in"):
        save("claims", text.encode())
    for path in (vectors / "cryptography-x509/requests").iterdir():
        save("csr", pem(path.read_bytes())[0])
    for path in (vectors / "go-spiffe").rglob("*.json"):
        save("jwks", path.read_bytes())
    for path in (vectors / "go-spiffe").rglob("*.pem"):
        for der in pem(path.read_bytes()):
            save("certificate", der)


out = pathlib.Path(sys.argv[1])
own(pathlib.Path(__file__).parent / "seeds")
if len(sys.argv) > 2 and pathlib.Path(sys.argv[2]).is_dir():
    published(pathlib.Path(sys.argv[2]))
else:
    print("skipped: seeds from published vectors need", sys.argv[2] if len(sys.argv) > 2 else "a folder")
