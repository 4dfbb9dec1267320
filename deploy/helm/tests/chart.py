"""Lints and renders the chart with every values file beside this one, and holds against the result what a linter cannot know.

The engine is Helm's own SDK (helm-python-sdk). `deploy/helm/check` calls this; with `--write` it renders
deploy/kubernetes anew.
"""

import json
import pathlib
import re
import shutil
import sys
import tomllib

import yaml
from helm_python.chart import Chart, lint

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CHART = HERE.parent / "tocsin"
PLAIN = ROOT / "deploy" / "kubernetes" / "tocsin.yaml"
# The oldest Kubernetes that the chart accepts and the newest whose schemas are at hand.
VERSIONS = ["1.30", "1.37"]
DAEMON_DRAIN_SECONDS = 10

failures = []


def expect(true, sentence):
    if not true:
        failures.append(sentence)
        print(f"FAILED: {sentence}")


def values_of(name):
    return yaml.safe_load((HERE / f"{name}.yaml").read_text()) or {}


def render(values, namespace="tocsin"):
    texts = Chart.load(CHART).render(values, name="tocsin", namespace=namespace)
    texts = {path: text for path, text in texts.items() if path.endswith(".yaml") and text.strip()}
    return texts, [document for text in texts.values() for document in yaml.safe_load_all(text) if document]


def of_kind(objects, kind):
    return [thing for thing in objects if thing["kind"] == kind]


def pods(objects):
    for thing in objects:
        if thing["kind"] == "Pod":
            yield thing["metadata"]["name"], thing["spec"]
        elif "template" in thing.get("spec", {}):
            yield thing["metadata"]["name"], thing["spec"]["template"]["spec"]


RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def check_restricted(where, pod):
    """The restricted Pod Security Standard, and what we promise beyond it."""
    outer = pod["securityContext"]
    expect(outer["runAsNonRoot"] is True, f"{where}: the pod may run as root")
    expect(outer.get("runAsUser") != 0, f"{where}: the pod runs as root")
    expect(outer["seccompProfile"] == {"type": "RuntimeDefault"}, f"{where}: no seccomp profile")
    expect(pod["automountServiceAccountToken"] is False, f"{where}: a token of the API server is mounted")
    expect(pod["enableServiceLinks"] is False, f"{where}: variables of Services are injected")
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        expect(not pod.get(key), f"{where}: {key}")
    for volume in pod["volumes"]:
        expect(set(volume) - {"name"} <= RESTRICTED_VOLUMES, f"{where}: the volume {volume} is not allowed")
    for container in pod.get("initContainers", []) + pod["containers"]:
        inner, place = container["securityContext"], f"{where}/{container['name']}"
        expect(inner["allowPrivilegeEscalation"] is False, f"{place}: privileges may grow")
        expect(inner["capabilities"] == {"drop": ["ALL"]}, f"{place}: capabilities are kept")
        expect(inner["readOnlyRootFilesystem"] is True, f"{place}: the root file system may be written")
        expect(inner["runAsNonRoot"] is True and "runAsUser" not in inner, f"{place}: may run as root")
        expect(inner["privileged"] is False, f"{place}: is privileged")
        expect(container["command"] == ["/usr/bin/tocsin"], f"{place}: another program")
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        expect(set(mounts) <= {volume["name"] for volume in pod["volumes"]}, f"{place}: mounts what is not there")
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        nested = [(a, b) for a in paths for b in paths if a != b and b.startswith(f"{a}/")]
        expect(not nested, f"{place}: one mount lies in another: {nested}")
        for name, mount in mounts.items():
            expect(mount.get("readOnly"), f"{place}: {name} may be written")


def check_secrets(where, pod):
    """Each secret is a volume of its own, which only the group of the pod reads; the owner's login is for migrations."""
    for volume in pod["volumes"]:
        source = volume.get("secret") or volume.get("projected")
        if source and not volume["name"].startswith("postgres-ca"):
            expect(source["defaultMode"] == 0o440, f"{where}: {volume['name']} has mode {source['defaultMode']:o}")
    for container in pod["containers"]:
        names = {mount["name"] for mount in container["volumeMounts"]}
        expect("database-owner" not in names, f"{where}: the daemon can read the owner's login")
    for container in pod.get("initContainers", []):
        names = {mount["name"] for mount in container["volumeMounts"]}
        expect(names.isdisjoint({"key-ring", "azure-identity-token"}), f"{where}: migrations can read keys")


def check_config(where, objects, known):
    """tocsin.toml is TOML, of keys that exist, and each file it names is mounted."""
    (config,) = [config for config in of_kind(objects, "ConfigMap") if "tocsin.toml" in config["data"]]
    parsed = tomllib.loads(config["data"]["tocsin.toml"])
    for section, keys in parsed.items():
        if section == "clouds":
            for cloud in keys.values():
                expect(set(cloud) <= known["clouds"], f"{where}: unknown keys of a cloud: {cloud}")
        elif section == "apps":
            for app in keys.values():
                expect(set(app) <= known["apps"], f"{where}: unknown keys of an app: {app}")
        else:
            expect(set(keys) <= set(known["defaults"][section]), f"{where}: unknown keys in [{section}]: {keys}")
    pod = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]
    daemon = pod["containers"][0]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    files = set()
    for mount in daemon["volumeMounts"]:
        volume = volumes[mount["name"]]
        for item in volume.get("secret", {}).get("items", []):
            files.add(f"{mount['mountPath']}/{item['path']}")
        for source in volume.get("projected", {}).get("sources", []):
            files.add(f"{mount['mountPath']}/{source['serviceAccountToken']['path']}")
    named = {parsed["database"]["url_file"], parsed["vault"]["key_file"]}
    named |= {value for key, value in parsed.get("notify", {}).items() if key.endswith("_file")}
    named |= {value for app in parsed.get("apps", {}).values() for key, value in app.items() if key.endswith("_file")}
    expect(named == files, f"{where}: named {sorted(named)}, mounted {sorted(files)}")
    ports = {port["name"]: port["containerPort"] for port in daemon["ports"]}
    for name in ("ops", "console"):
        expect(parsed[name]["listen"].endswith(f":{ports[name]}"), f"{where}: {name} listens on {parsed[name]['listen']}")
    return parsed, config["data"]["tocsin.toml"]


def check_daemon(where, objects):
    """Probes, the stop, and who may reach what."""
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    daemon = pod["containers"][0]
    asked = {daemon[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    expect(asked == {"/startupz", "/livez", "/readyz"}, f"{where}: the probes ask {asked}")
    sleep = daemon.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    expect(pod["terminationGracePeriodSeconds"] > sleep + DAEMON_DRAIN_SECONDS, f"{where}: killed before it has drained")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    expect(selector.items() <= labels.items(), f"{where}: the selector does not find the pods")
    budgets = of_kind(objects, "PodDisruptionBudget")
    expect(len(budgets) == (1 if deployment["spec"]["replicas"] > 1 else 0), f"{where}: budgets {budgets}")
    test_labels = of_kind(objects, "Pod")[0]["metadata"]["labels"]
    for service in of_kind(objects, "Service"):
        wanted, name = service["spec"]["selector"].items(), service["metadata"]["name"]
        expect(wanted <= labels.items(), f"{where}: {name} finds no pod")
        expect(not wanted <= test_labels.items(), f"{where}: {name} finds the test")
    for ingress in of_kind(objects, "Ingress"):
        backends = {path["backend"]["service"]["name"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]}
        expect(all(name.endswith("-console") for name in backends), f"{where}: the Ingress leads to {backends}")
    for policy in of_kind(objects, "NetworkPolicy"):
        for of in (labels, test_labels):
            expect(policy["spec"]["podSelector"]["matchLabels"].items() <= of.items(), f"{where}: the policy misses a pod")


def check_dashboards(where, objects, offered):
    """Each dashboard is there as it is, under labels that the values name, and small enough for etcd."""
    sources = {path.name: path.read_text() for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
    shipped = {}
    for config in of_kind(objects, "ConfigMap"):
        if "tocsin.toml" not in config["data"]:
            expect(offered["labels"].items() <= config["metadata"]["labels"].items(), f"{where}: a dashboard without {offered['labels']}")
            shipped |= config["data"]
    expect(shipped == (sources if offered["enabled"] else {}), f"{where}: dashboards {sorted(shipped)}, there are {sorted(sources)}")
    for name, text in shipped.items():
        expect(len(text.encode()) < 900_000, f"{where}: {name} is too large for a ConfigMap")
        json.loads(text)
    return len(shipped)


def known_keys():
    keys = (ROOT / "crates/daemon/src/config/keys.rs").read_text()
    listed = lambda name: set(re.findall(r'"([a-z_]+)"', re.search(name + r": &\[&str\] =\s*&\[(.*?)\];", keys, re.S)[1]))
    defaults = tomllib.loads((ROOT / "config/default.toml").read_text())
    return {"defaults": defaults, "apps": listed("APP_KEYS"), "clouds": listed("CLOUD_KEYS")}


def check_drift(known):
    """The schema has exactly the daemon's keys, but for those that are the chart's business."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    config = schema["properties"]["config"]["properties"]
    ours = {"database": None, "ops": None, "state_dir": None, "console": None, "notify": {"url_file", "secret_file"}, "vault": {"key_file"}}
    for section, keys in known["defaults"].items():
        hidden = ours.get(section, set())
        if hidden is not None:
            offered = set(config.get(section, {}).get("properties", {}))
            expect(offered == set(keys) - hidden, f"values.schema.json: config.{section} has {offered}, the daemon {set(keys) - hidden}")
    clouds = set(config["clouds"]["additionalProperties"]["properties"])
    expect(clouds == known["clouds"], f"values.schema.json: config.clouds has {clouds}, the daemon {known['clouds']}")
    # Strict everywhere but for `global`, for what Kubernetes itself defines, and for maps of free keys.
    def walk(node, path):
        if isinstance(node, dict):
            if "properties" in node and path[-1:] not in (["if"], ["then"]):
                expect(node.get("additionalProperties") is False, f"values.schema.json: {'/'.join(path)} takes unknown keys")
            for key, below in node.items():
                walk(below, [*path, key])
    walk(schema, [])
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    expect(about["appVersion"] == version, f"Chart.yaml: appVersion {about['appVersion']}, tocsin is {version}")
    text = (CHART / "values.yaml").read_text()
    missing = set(schema["properties"]) ^ set(yaml.safe_load(text))
    expect(not missing, f"values.yaml and values.schema.json differ in {missing}")
    # A comment stands above each value or above the group of lines that it begins.
    for group in text.split("\n\n"):
        expect(group.lstrip().startswith("#"), f"values.yaml: nothing is said of {group.splitlines()[0]}")


APP = "11111111-2222-3333-4444-555555555555"
REFUSED = {
    "a misspelt key": ({"replicas": 3}, "replicas"),
    "a misspelt key further down": ({"config": {"poll": {"intervall": "30s"}}}, "intervall"),
    "a secret in the values": ({"database": {"url": "postgres://a:b@c/d"}}, "url"),
    "no replica": ({"replicaCount": 0}, "replicaCount"),
    "root": ({"securityContext": {"runAsUser": 0}}, "runAsUser"),
    "a privileged pod": ({"securityContext": {"privileged": True}}, "privileged"),
    "a folder of the node": ({"extraVolumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "hostPath"),
    "two credentials": (
        {"apps": {"main": {"clientId": APP, "credential": {"workloadIdentity": True, "clientSecret": {"existingSecret": "x"}}}}},
        "credential",
    ),
    "client_credentials without one": ({"apps": {"main": {"clientId": APP, "grant": "client_credentials"}}}, "credential"),
    "an app that is no volume's name": ({"apps": {"Main_App": {"clientId": APP}}}, "Main_App"),
    "pages in the clear": ({"console": {"publicUrl": "http://soc.example"}}, "publicUrl"),
    "no time to drain": ({"terminationGracePeriodSeconds": 15}, "terminationGracePeriodSeconds is under 17"),
    "an Ingress without a host": ({"ingress": {"enabled": True}}, "ingress.host is empty"),
    "a webhook's address in the values": ({"config": {"notify": {"url_file": "https://hooks.example/x"}}}, "url_file"),
    "a retention that is no time": ({"config": {"retention": {"versions": "a year"}}}, "versions"),
    "customers on the ops port": ({"console": {"port": 9464}}, "ops.port and console.port"),
    "keys and credential in one Secret": (
        {"keyRing": {"existingSecret": "x"}, "apps": {"main": {"clientId": APP, "credential": {"clientSecret": {"existingSecret": "x"}}}}},
        "where one leak takes both",
    ),
    "keys and the database's login in one Secret": ({"keyRing": {"existingSecret": "tocsin-database"}}, "keyRing and database are in one Secret"),
    "keys and the owner's login in one Secret": (
        {"keyRing": {"existingSecret": "tocsin-database-owner"}},
        "keyRing and migrations are in one Secret",
    ),
    "keys and the webhook in one Secret": (
        {"keyRing": {"existingSecret": "x"}, "notify": {"existingSecret": "x"}},
        "keyRing and notify are in one Secret",
    ),
    "a scrape longer than its interval": (
        {"monitoring": {"serviceMonitor": {"enabled": True, "interval": "1m", "scrapeTimeout": "61s"}}},
        "scrapeTimeout, 61s, is longer than its interval, 1m",
    ),
    "another volume for the key ring": ({"extraVolumes": [{"name": "key-ring", "emptyDir": {}}]}, "extraVolumes has a volume key-ring"),
    "another volume for an app": (
        {"apps": {"main": {"clientId": APP}}, "extraVolumes": [{"name": "app-main", "emptyDir": {}}]},
        "extraVolumes has a volume app-main",
    ),
} | {
    f"extraEnv with {name}": ({"extraEnv": [{"name": name, "value": "x"}]}, f"extraEnv sets {name}")
    for name in (
        "TOCSIN_CONFIG_FILE",
        "TOCSIN_OPS__LISTEN",
        "TOCSIN_ops__listen",
        "TOCSIN_CONSOLE__LISTEN",
        "TOCSIN_CONSOLE__PUBLIC_URL",
        "TOCSIN_DATABASE__URL",
        "TOCSIN_DATABASE__URL_FILE",
        "TOCSIN_VAULT__KEY_FILE",
        "TOCSIN_NOTIFY__URL_FILE",
        "TOCSIN_NOTIFY__SECRET_FILE",
        "TOCSIN_APPS__MAIN__CLIENT_SECRET_FILE",
    )
}


def check_refused():
    chart = Chart.load(CHART)
    for told, (values, words) in REFUSED.items():
        try:
            chart.validate_schema(values)
            chart.render(values, name="tocsin", namespace="tocsin")
        except Exception as error:  # noqa: BLE001: each layer of Helm has errors of its own
            expect(words in str(error), f"{told} is refused with the wrong words: {error}")
        else:
            expect(False, f"{told} is taken")


def check_labels():
    """Labels by which objects find each other are ours, whatever the values say."""
    evil = {"app.kubernetes.io/name": "evil", "app.kubernetes.io/component": "evil", "helm.sh/chart": "evil", "team": "soc"}
    for values in ({"commonLabels": evil}, {"podLabels": evil}):
        texts, objects = render(values)
        check_daemon(f"{values}", objects)
        expect(not any("evil" in text for text in texts.values()), f"{values}: a label of the chart is overridden")
        labels = of_kind(objects, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
        expect(labels["team"] == "soc", f"{values}: a label got lost: {labels}")


def check_schemas(name, objects):
    import kubernetes_validate

    for version in VERSIONS:
        for thing in objects:
            if "monitoring.coreos.com" in thing["apiVersion"]:
                continue
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                expect(False, f"{name}: {thing['kind']} {thing['metadata']['name']} under Kubernetes {version}: {error.message}")


def plain(texts):
    """The manifests without what only Helm reads."""
    head = "# Rendered from deploy/helm/tocsin with its default values by `deploy/helm/check --write`; do not edit.\n"
    kept = {path: text for path, text in texts.items() if "/tests/" not in path}
    lines = []
    for path in sorted(kept):
        lines.append("---")
        lines += [line for line in kept[path].strip("\n").splitlines() if not re.search(r"helm\.sh/chart:|managed-by: Helm", line)]
    return head + "\n".join(lines) + "\n"


def main():
    global CHART
    folder = pathlib.Path(sys.argv[1])
    # The engine follows links out of the chart as well, and says so each time that it does.
    CHART = pathlib.Path(shutil.copytree(CHART, folder / "chart"))
    known = known_keys()
    check_drift(known)
    check_refused()
    check_labels()
    sets = sorted(path.stem for path in HERE.glob("*.yaml") if not path.stem.endswith("_test"))
    for name in sets:
        values, before = values_of(name), len(failures)
        for version in VERSIONS:
            report = lint(CHART, values, strict=True, namespace="tocsin", kube_version=f"v{version}.0")
            # "icon is recommended" is information and no fault.
            bad = [message for message in report["messages"] if message["severity"] > 1]
            expect(not report["errors"] and not bad, f"{name}: helm lint: {report['errors']} {bad}")
        Chart.load(CHART).validate_schema(values)
        texts, objects = render(values)
        for pod_name, pod in pods(objects):
            check_restricted(f"{name}/{pod_name}", pod)
            check_secrets(f"{name}/{pod_name}", pod)
        toml, text = check_config(name, objects, known)
        check_daemon(name, objects)
        check_schemas(name, objects)
        (folder / f"{name}.yaml").write_text("---\n".join(texts.values()))
        (folder / f"{name}.toml").write_text(text)
        for thing in objects:
            if "monitoring.coreos.com" in thing["apiVersion"]:
                (folder / f"{name}-{thing['kind']}.json").write_text(json.dumps(thing))
        if name == "everything":
            expect(toml["vault"]["require_separation"] is False, "everything: a false of the values got lost")
            expect(toml["console"]["operator"] == values["console"]["operator"], f"everything: quoted wrongly: {toml['console']}")
            expect(toml["notify"]["allow_private"] is True and toml["retention"]["comparisons"] == "", f"everything: {toml}")
            expect(toml["poll"]["page_size"] == 500 and toml["ops"]["listen"] == "[::]:19464", f"everything: {toml}")
            offered = values["monitoring"]["dashboards"]
            dashboards = check_dashboards(name, objects, offered)
            expect(len(objects) == 11 + dashboards, f"everything: {[thing['kind'] for thing in objects]}")
        if name == "external-identity":
            outer = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["securityContext"]
            expect("runAsUser" not in outer, f"external-identity: {outer}")
        if name == "defaults":
            check_dashboards(name, objects, {"enabled": False, "labels": {}})
            if "--write" in sys.argv:
                PLAIN.write_text(plain(texts))
            expect(PLAIN.exists() and PLAIN.read_text() == plain(texts), f"{PLAIN.relative_to(ROOT)} is out of date; type: deploy/helm/check --write")
        print(f"{name}: {len(objects)} objects, lint and schemas of Kubernetes {' and '.join(VERSIONS)}", "FAILED" if len(failures) > before else "ok")
    print(f"{len(REFUSED)} wrong values refused" if not failures else f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
