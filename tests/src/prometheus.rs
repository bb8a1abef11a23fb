//! Prometheus, which runs the rules and scrapes a daemon, its promtool, which checks the rules, and its Alertmanager, which
//! a daemon pushes to: Debian's packages, unpacked and not installed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cache::Cache;
use crate::error::At;
use crate::{Error, Result, apt};

/// promtool from the cache, fetched where it isn't there yet.
pub fn promtool(cache: &Cache) -> Result<PathBuf> {
    let entry = apt::package(cache, "promtool", "promtool", "16 MB")?;
    Ok(entry.dir.join("root/usr/bin/promtool"))
}

/// A Prometheus that runs; it ends with this.
#[derive(Debug)]
pub struct Prometheus {
    server: Server,
    pub port: u16,
}

/// An Alertmanager that runs, and tells nobody of what it gets; it ends with this.
#[derive(Debug)]
pub struct Alertmanager {
    _server: Server,
}

/// A server on a port of the loopback.
#[derive(Debug)]
struct Server {
    process: Child,
    port: u16,
    _work: tempfile::TempDir,
}

/// How long it may take to start, and to answer.
const LIMIT: Duration = Duration::from_secs(60);
const LISTEN: &str = "--web.listen-address=127.0.0.1:";

impl Server {
    /// Runs a program with its configuration, in a directory of its own.
    fn start(program: &Path, work: tempfile::TempDir, config: &str, options: &[String]) -> Result<Self> {
        let port =
            options.iter().find_map(|option| option.strip_prefix(LISTEN)?.parse().ok()).unwrap_or_default();
        let (file, log) = (work.path().join("config.yml"), work.path().join("log"));
        std::fs::write(&file, config).at(&file)?;
        let process = Command::new(program)
            .arg(option("config.file", &file))
            .args(options)
            .current_dir(work.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).at(&log)?)
            .spawn()
            .map_err(|source| Error::Spawn { program: program.display().to_string(), source })?;
        let mut started = Self { process, port, _work: work };
        let start = Instant::now();
        while started.get("/-/ready").is_err() {
            let ended = started.process.try_wait().at(program)?;
            if ended.is_some() || start.elapsed() > LIMIT {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::Prometheus { reason: format!("it does not start: {said}") });
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(started)
    }

    fn get(&self, path: &str) -> Result<String> {
        let failed = |reason: String| Error::Prometheus { reason: format!("{path}: {reason}") };
        let exchange = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(LIMIT))?;
            // By HTTP/1.0 the answer is neither compressed nor in chunks, and ends with the connection.
            write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        let answer = exchange().map_err(|error| failed(error.to_string()))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed("half an answer".into()))?;
        if head.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(failed(body.to_owned())) }
    }
}

impl Alertmanager {
    pub fn start(cache: &Cache, port: u16) -> Result<Self> {
        let name = "prometheus-alertmanager";
        let root = apt::package(cache, name, name, "11 MB")?.dir.join("root");
        let work = tempfile::tempdir().at("the temporary directory")?;
        let (installed, program) = (root.join("usr/bin").join(name), work.path().join(name));
        let code = here(std::fs::read(&installed).at(&installed)?);
        std::fs::write(&program, code).at(&program)?;
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).at(&program)?;
        for template in ["default.tmpl", "email.tmpl"] {
            let from = root.join(&SHARE[1..]).join(template);
            std::fs::copy(&from, work.path().join(template)).at(&from)?;
        }
        let config = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
        // There is no other one to talk to.
        let options =
            [format!("{LISTEN}{port}"), "--storage.path=data".into(), "--cluster.listen-address=".into()];
        Server::start(&program, work, config, &options).map(|server| Self { _server: server })
    }
}

/// Where Debian's Alertmanager has its templates, and looks for them.
const SHARE: &str = "/usr/share/prometheus/alertmanager";

/// The program that looks for them in its working directory: it is unpacked, and not installed.
fn here(mut program: Vec<u8>) -> Vec<u8> {
    let here = "./".repeat(SHARE.len() / 2);
    let there = places(&program, SHARE.as_bytes());
    there.into_iter().for_each(|place| program[place..place + here.len()].copy_from_slice(here.as_bytes()));
    program
}

fn places(text: &[u8], wanted: &[u8]) -> Vec<usize> {
    let starts = text.iter().enumerate().filter(|(_, byte)| Some(*byte) == wanted.first());
    starts.map(|(place, _)| place).filter(|&place| text[place..].starts_with(wanted)).collect()
}

impl Prometheus {
    /// Scrapes `target`, a port of the loopback, under `job="iommu-watch"`, and evaluates `rules`, each once a second.
    pub fn start(cache: &Cache, target: u16, rules: &[PathBuf]) -> Result<Self> {
        let entry = apt::package(cache, "prometheus", "prometheus", "30 MB")?;
        let work = tempfile::tempdir().at("the temporary directory")?;
        let (port, config) = (free_port()?, configuration(target, rules));
        let options = [format!("{LISTEN}{port}"), "--storage.tsdb.path=data".into()];
        let server = Server::start(&entry.dir.join("root/usr/bin/prometheus"), work, &config, &options)?;
        Ok(Self { server, port })
    }

    /// What an expression gives at a time, in seconds since the epoch; now, where none is given.
    pub fn query(&self, expression: &str, time: Option<f64>) -> Result<Vec<Value>> {
        let time = time.map(|time| format!("&time={time}")).unwrap_or_default();
        self.results(&format!("/api/v1/query?query={}{time}", escaped(expression)))
    }

    /// What it gave in each second between two times.
    pub fn query_range(&self, expression: &str, start: f64, end: f64) -> Result<Vec<Value>> {
        let query = escaped(expression);
        self.results(&format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=1"))
    }

    fn results(&self, path: &str) -> Result<Vec<Value>> {
        match self.api(path)?["result"].take() {
            Value::Array(results) => Ok(results),
            other => Err(Error::Prometheus { reason: format!("{path}: {other} instead of results") }),
        }
    }

    /// The `data` of an answer of its API.
    pub fn api(&self, path: &str) -> Result<Value> {
        let body = self.server.get(path)?;
        let mut answer: Value = serde_json::from_str(&body)
            .map_err(|error| Error::Prometheus { reason: format!("{path}: {error}: {body}") })?;
        Ok(answer["data"].take())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing that is worth an orderly end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port of the loopback that nobody listens on now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).at("127.0.0.1")?;
    Ok(listener.local_addr().at("127.0.0.1")?.port())
}

/// JSON strings are YAML, whatever is in a path.
fn configuration(target: u16, rules: &[PathBuf]) -> String {
    let rules: Vec<String> =
        rules.iter().map(|path| Value::from(path.display().to_string()).to_string()).collect();
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{}]\n\
         scrape_configs:\n  - job_name: iommu-watch\n    static_configs: [{{targets: [\"127.0.0.1:{target}\"]}}]\n",
        rules.join(", ")
    )
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// A text as a part of a URL.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_survives_a_url() {
        assert_eq!(escaped(r#"a{b=~"x"} + 1"#), "a%7Bb%3D~%22x%22%7D%20%2B%201".replace('~', "%7E"));
    }

    #[test]
    fn a_program_that_is_only_unpacked_finds_its_templates_where_it_is_started() {
        let code = here(format!("x{SHARE}/default.tmpl {SHARE}.").into_bytes());
        let here = "./".repeat(17);
        assert_eq!(String::from_utf8(code).unwrap(), format!("x{here}/default.tmpl {here}."));
    }

    #[test]
    fn a_path_may_have_what_yaml_takes_for_its_own() {
        let text = configuration(9436, &["/a b: {c}.yml".into(), "/d\"e.yml".into()]);
        assert!(text.contains(r#"rule_files: ["/a b: {c}.yml", "/d\"e.yml"]"#), "{text}");
    }
}
