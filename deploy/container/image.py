"""Reads an unpacked archive of the image and holds it against what a cluster relies on; see deploy/container/check."""

import json
import pathlib
import sys
import tarfile

folder = pathlib.Path(sys.argv[1])
(manifest,) = json.loads((folder / "manifest.json").read_text())
image = json.loads((folder / manifest["Config"]).read_text())
config = image["config"]
wanted = {
    "User": "65532:65532",
    "Entrypoint": ["/usr/bin/tocsin"],
    "Cmd": ["serve"],
    "StopSignal": "SIGTERM",
    "ExposedPorts": {"8080/tcp": {}, "9464/tcp": {}},
}
failures = [f"{key} is {config.get(key)!r}, not {value!r}" for key, value in wanted.items() if config.get(key) != value]
if config.get("Healthcheck", {}).get("Test") != ["CMD", "/usr/bin/tocsin", "healthcheck", "--live"]:
    failures.append(f"the health check is {config.get('Healthcheck')}")
labels = {f"org.opencontainers.image.{name}" for name in ("title", "description", "version", "licenses")}
if not labels <= set(config.get("Labels", {})):
    failures.append(f"labels are missing: {labels - set(config.get('Labels', {}))}")
if set(config.get("Env") or []) - {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}:
    failures.append(f"there are variables: {config['Env']}")
files = set()
for layer in manifest["Layers"]:
    with tarfile.open(folder / layer) as archive:
        files |= {member.name for member in archive if not member.isdir()}
if "usr/bin/tocsin" not in files or any(name.rsplit("/", 1)[-1] in ("sh", "bash", "busybox", "apk", "dpkg") for name in files):
    failures.append(f"these files lie in it: {sorted(files)}")
for failure in failures:
    print(f"image: {failure}", file=sys.stderr)
print(f"image {manifest['RepoTags'][0]}: {len(manifest['Layers'])} layer(s), {len(files)} files, {'FAILED' if failures else 'ok'}")
sys.exit(1 if failures else 0)
