//! What the unit, the Containerfile and the manifests say of the same thing must be the same.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::yaml;
use crate::packaging::VERSION;
use crate::paths;

pub const CONTAINERFILE: &str = "packaging/container/Containerfile";
const MANIFEST: &str = "packaging/kubernetes/iommu-watch.yaml";
const UNPIN: &str = "packaging/kubernetes/unpin.yaml";
const UNIT: &str = "packaging/iommu-watch.service";

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// In what the pods that remove are those that watch.
const UNPINS_BY: [&str; 10] = [
    "/metadata/namespace",
    "/spec/template/spec/priorityClassName",
    "/spec/template/spec/nodeSelector",
    "/spec/template/spec/tolerations",
    "/spec/template/spec/securityContext",
    "/spec/template/spec/volumes/0",
    "/spec/template/spec/containers/0/image",
    "/spec/template/spec/containers/0/securityContext",
    "/spec/template/spec/containers/0/resources",
    "/spec/template/spec/containers/0/volumeMounts/0",
];

pub struct Files {
    pub manifest: String,
    pub unpin: String,
    documents: Vec<Value>,
    /// The one that removes what is pinned.
    remover: Value,
    containerfile: Vec<String>,
    unit: String,
}

impl Files {
    pub fn read() -> Result<Self> {
        let read = |name: &str| {
            fs::read_to_string(paths::workspace().join(name)).with_context(|| format!("can't read {name}"))
        };
        Self::of(read(MANIFEST)?, read(UNPIN)?, &read(CONTAINERFILE)?, read(UNIT)?)
    }

    fn of(manifest: String, unpin: String, containerfile: &str, unit: String) -> Result<Self> {
        let documents = yaml::documents(&manifest).context(MANIFEST)?;
        let remover = yaml::documents(&unpin).context(UNPIN)?.into_iter().next().unwrap_or_default();
        Ok(Self { manifest, unpin, documents, remover, containerfile: instructions(containerfile), unit })
    }

    /// The file that the ConfigMap holds.
    pub fn configuration(&self) -> Option<&str> {
        self.document("ConfigMap")?.pointer("/data/iommu-watch.toml")?.as_str()
    }

    /// In what they differ; `staged`: whether what is packaged has this file.
    pub fn disagree(&self, staged: impl Fn(&str) -> bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut same = |what: &str, theirs: Value, ours: Value| {
            if theirs != ours {
                wrong.push(format!("{what}: {theirs}, and not {ours}"));
            }
        };
        let container = |path: &str| self.daemon_set(&format!("{CONTAINER}{path}"));
        let security = |member: &str| container(&format!("/securityContext/{member}"));

        let given: Value =
            self.unit_words("CapabilityBoundingSet").iter().map(|name| name.replace("CAP_", "")).collect();
        same("capabilities.add", security("capabilities/add"), given);
        same("capabilities.drop", security("capabilities/drop"), json!(["ALL"]));
        same("privileged", security("privileged"), json!(false));
        let escalates = self.unit_key("NoNewPrivileges") != "yes";
        same("allowPrivilegeEscalation", security("allowPrivilegeEscalation"), json!(escalates));
        let read_only = self.unit_key("ProtectSystem") == "strict";
        same("readOnlyRootFilesystem", security("readOnlyRootFilesystem"), json!(read_only));
        for shared in ["hostNetwork", "hostPID", "hostIPC"] {
            same(shared, self.daemon_set(&format!("{POD}/{shared}")), Value::Null);
        }

        let limit = |name: &str| container(&format!("/resources/limits/{name}"));
        same("limits.memory", limit("memory"), json!(format!("{}i", self.unit_key("MemoryMax"))));
        same("limits.cpu in %", percent(&limit("cpu")), json!(self.unit_key("CPUQuota")));

        let seconds = |probe: &str| {
            let number = |member: &str| container(&format!("/{probe}/{member}")).as_u64().unwrap_or_default();
            json!((number("periodSeconds") * number("failureThreshold")).to_string())
        };
        same("startupProbe in seconds", seconds("startupProbe"), json!(self.unit_key("TimeoutStartSec")));
        same("livenessProbe in seconds", seconds("livenessProbe"), json!(self.unit_key("WatchdogSec")));
        for (probe, path) in
            [("startupProbe", "/-/ready"), ("livenessProbe", "/-/healthy"), ("readinessProbe", "/-/ready")]
        {
            same(probe, container(&format!("/{probe}/httpGet/path")), json!(path));
            same(probe, container(&format!("/{probe}/httpGet/port")), container("/ports/0/name"));
        }

        let port = container("/ports/0/containerPort");
        let annotated = self.daemon_set("/spec/template/metadata/annotations/prometheus.io~1port");
        same("the annotated port", annotated, json!(port.to_string()));
        same("the image's port", self.instruction("EXPOSE"), json!(port.to_string()));
        let listens =
            self.configuration().and_then(|text| text.rsplit_once(':')).map(|(_, port)| port.trim_end());
        same("the port listened on", json!(listens), json!(format!("{port}\"")));
        let admitted =
            self.document("NetworkPolicy").and_then(|policy| policy.pointer("/spec/ingress/0/ports/0/port"));
        same("the port let in", json!(admitted), port);

        let mounted = container("/volumeMounts/0/mountPath");
        let pins = self.configuration().is_some_and(|text| text.contains(&format!("pin = {mounted}")));
        same("the pins are where they are mounted", json!(pins), json!(true));
        let host = self.daemon_set(&format!("{POD}/volumes/0/hostPath/path"));
        let of_unit = host.as_str().is_some_and(|path| self.unit.contains(path));
        same("the pins are in the unit's place", json!(of_unit), json!(true));
        let remover = |path: &str| self.remover.pointer(path).cloned().unwrap_or_default();
        for path in UNPINS_BY {
            same(&format!("unpin.yaml: {path}"), remover(path), self.daemon_set(path));
        }
        let unpins = remover(&format!("{CONTAINER}/args"));
        same("unpin.yaml: args", unpins, json!(["daemon", "--unpin", "--pin-directory", mounted]));

        let command: Vec<&str> = self.unit_key("ExecStart").split(' ').collect();
        same("args", container("/args"), json!(command[1..]));
        let of_image =
            |name: &str| serde_json::from_value::<Value>(self.instruction(name)).unwrap_or_default();
        let list = |value: Value| {
            value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        same("CMD", list(of_image("CMD")), json!(command[1..]));
        same("ENTRYPOINT", list(of_image("ENTRYPOINT")), json!(command[..1]));
        let image = container("/image");
        let tag = image.as_str().and_then(|image| image.rsplit_once(':')).map(|(_, tag)| tag);
        same("the image's tag", json!(tag), json!(VERSION));
        let labelled = format!("org.opencontainers.image.version=\"{VERSION}\"");
        let labels = self.instruction("LABEL");
        same(
            "the image's version",
            json!(labels.as_str().is_some_and(|text| text.contains(&labelled))),
            json!(true),
        );

        let sources = self.copied();
        let missing: Vec<&&str> = sources.iter().filter(|file| !staged(file)).collect();
        same("files that are not packaged", json!(missing), json!([]));
        let program = command[0].trim_start_matches('/');
        same("the program is in the image", json!(sources.contains(program)), json!(true));
        wrong
    }

    fn document(&self, kind: &str) -> Option<&Value> {
        self.documents.iter().find(|document| document["kind"] == kind)
    }

    fn daemon_set(&self, path: &str) -> Value {
        self.document("DaemonSet").and_then(|document| document.pointer(path)).cloned().unwrap_or_default()
    }

    fn unit_key(&self, key: &str) -> &str {
        let value = |line: &'_ str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with('='));
        self.unit.lines().find(|line| value(line)).map_or("", |line| &line[key.len() + 1..])
    }

    fn unit_words(&self, key: &str) -> Vec<&str> {
        self.unit_key(key).split_whitespace().collect()
    }

    /// What stands after an instruction that there is once.
    fn instruction(&self, name: &str) -> Value {
        let found = self.containerfile.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        json!(found.map(str::trim).collect::<Vec<_>>().join("\n"))
    }

    /// What the image is made of.
    fn copied(&self) -> BTreeSet<&str> {
        let copies = self.containerfile.iter().filter_map(|line| line.strip_prefix("COPY "));
        let sources = copies.flat_map(|line| {
            let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("--")).collect();
            words[..words.len().saturating_sub(1)].to_vec()
        });
        sources.collect()
    }
}

/// A Containerfile's instructions, a line each, without comments.
fn instructions(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// CPUs as Kubernetes says them, `1` or `500m`, as systemd does.
fn percent(cpus: &Value) -> Value {
    let text = cpus.as_str().unwrap_or_default();
    let thousandths = match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().ok(),
        None => text.parse::<u64>().ok().map(|cpus| cpus * 1000),
    };
    thousandths.map_or(Value::Null, |thousandths| json!(format!("{}%", thousandths / 10)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packaging::stage;

    fn wrong(change: impl Fn(&mut String, &mut String, &mut String)) -> Vec<String> {
        wrong_beside(&read(UNPIN), change)
    }

    fn read(name: &str) -> String {
        fs::read_to_string(paths::workspace().join(name)).unwrap()
    }

    fn wrong_beside(unpin: &str, change: impl Fn(&mut String, &mut String, &mut String)) -> Vec<String> {
        let (mut manifest, mut containerfile, mut unit) = (read(MANIFEST), read(CONTAINERFILE), read(UNIT));
        change(&mut manifest, &mut containerfile, &mut unit);
        Files::of(manifest, unpin.into(), &containerfile, unit).unwrap().disagree(stage::lays_out)
    }

    #[test]
    fn the_files_agree() {
        assert_eq!(wrong(|_, _, _| {}), [""; 0]);
    }

    #[test]
    fn what_is_changed_in_one_of_them_alone_is_told() {
        let manifest = |from: &'static str, to: &'static str| {
            wrong(move |manifest, _, _| {
                assert!(manifest.contains(from), "{from}");
                *manifest = manifest.replacen(from, to, 1);
            })
        };
        // Who unpins differs then, too.
        let alone = |told: Vec<String>| told.into_iter().filter(|told| !told.starts_with("unpin.yaml"));
        for (from, to) in [
            ("[BPF, PERFMON, SYSLOG]", "[BPF, PERFMON, SYSLOG, SYS_ADMIN]"),
            ("drop: [ALL]", "drop: []"),
            ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
            ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
            ("dnsPolicy: Default", "hostNetwork: true"),
            ("cpu: \"1\"", "cpu: 500m"),
            ("memory: 256Mi", "memory: 128Mi"),
            ("failureThreshold: 60", "failureThreshold: 30"),
            ("{path: /-/healthy, port: http}", "{path: /-/health, port: http}"),
            ("{path: /-/ready, port: http}", "{path: /-/ready, port: metrics}"),
            ("iommu-watch:0.1.0", "iommu-watch:latest"),
            ("prometheus.io/port: \"9436\"", "prometheus.io/port: \"9100\""),
            ("0.0.0.0:9436", "0.0.0.0:9437"),
            ("args: [daemon, ", "args: [watch, "),
            ("pin = \"/pins\"", "pin = \"/pin\""),
        ] {
            assert_eq!(alone(manifest(from, to)).count(), 1, "{from} → {to}: {:?}", manifest(from, to));
        }
    }

    #[test]
    fn who_unpins_is_held_against_who_pins() {
        let told = |from: &str, to: &str| {
            assert!(read(UNPIN).contains(from), "{from}");
            wrong_beside(&read(UNPIN).replacen(from, to, 1), |_, _, _| {})
        };
        for (from, to) in [
            ("namespace: iommu-watch", "namespace: default"),
            ("operator: Exists", "effect: NoSchedule"),
            ("iommu-watch:0.1.0", "iommu-watch:0.0.9"),
            ("add: [BPF, PERFMON, SYSLOG]", "add: [SYS_ADMIN]"),
            ("--unpin, --pin-directory, /pins", "--unpin"),
            ("mountPath: /pins", "mountPath: /pin"),
            ("path: /sys/fs/bpf/iommu-watch", "path: /sys/fs/bpf"),
        ] {
            assert_eq!(told(from, to).len(), 1, "{from} → {to}: {:?}", told(from, to));
        }
        let elsewhere = |manifest: &mut String, _: &mut String, _: &mut String| {
            *manifest = manifest.replace("/sys/fs/bpf/iommu-watch", "/sys/fs/bpf/other");
        };
        assert_eq!(wrong(elsewhere).len(), 2, "{:?}", wrong(elsewhere));
    }

    #[test]
    fn what_the_image_copies_is_packaged() {
        let copied = |from: &'static str, to: &'static str| {
            wrong(move |_, containerfile, _| {
                assert!(containerfile.contains(from), "{from}");
                *containerfile = containerfile.replacen(from, to, 1);
            })
        };
        let told = copied("COPY usr/bin/iommu-watch", "COPY usr/bin/iommu-watsh");
        assert_eq!(told[0], "files that are not packaged: [\"usr/bin/iommu-watsh\"], and not []");
        assert_eq!(told[1], "the program is in the image: false, and not true");
        assert_eq!(copied("[\"daemon\"", "[\"daemons\"").len(), 1);
    }

    #[test]
    fn what_the_unit_gives_more_is_told() {
        let told = wrong(|_, _, unit| *unit = unit.replace("MemoryMax=256M", "MemoryMax=512M"));
        assert_eq!(told, ["limits.memory: \"256Mi\", and not \"512Mi\""]);
    }
}
