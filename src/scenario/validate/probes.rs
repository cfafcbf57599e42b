//! Probes and hooks, Kubernetes' defaults filled in.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, Probe as KubernetesProbe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::scenario::problem::KeyPath;
use crate::scenario::{Handler, Probe};

use super::{Notes, containers};

/// A container's ports, by their names.
#[derive(Debug)]
pub(super) struct Ports<'a>(Vec<(&'a str, i32)>);

impl<'a> Ports<'a> {
    pub(super) fn of(container: &'a Container) -> Self {
        let ports = container.ports.iter().flatten();
        Self(ports.filter_map(|port| Some((port.name.as_deref()?, port.container_port))).collect())
    }

    fn resolve(&self, port: &IntOrString, path: &KeyPath, notes: &mut Notes) -> Option<u16> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                self.0.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
            }
        };
        let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
        if number.is_none() {
            let hint = "say a number from 1 to 65535, or the name of one of the container's ports";
            notes.problem(path, "is no port", hint);
        }
        number
    }
}

/// A liveness or startup probe.
pub(super) fn probe(
    found: Option<&KubernetesProbe>,
    ports: &Ports<'_>,
    path: &KeyPath,
    succeeds_once: bool,
    notes: &mut Notes,
) -> Option<Probe> {
    let found = found?;
    let given = Given {
        exec: found.exec.as_ref(),
        http_get: found.http_get.as_ref(),
        tcp_socket: found.tcp_socket.as_ref(),
        sleep: None,
        other: found.grpc.is_some(),
    };
    let handler = handler(&given, "exec, httpGet and tcpSocket", ports, path, notes);
    // Kubernetes takes 0 for "not given".
    let mut number = |value: Option<i32>, default: u32, key: &str| {
        let value = value.filter(|value| *value != 0).map(i64::from);
        containers::seconds(value, default, &path.key(key), notes)
    };
    let mut probe = Probe {
        handler: Handler::Sleep(0),
        initial_delay_seconds: number(found.initial_delay_seconds, 0, "initialDelaySeconds"),
        period_seconds: number(found.period_seconds, 10, "periodSeconds"),
        timeout_seconds: number(found.timeout_seconds, 1, "timeoutSeconds"),
        success_threshold: number(found.success_threshold, 1, "successThreshold"),
        failure_threshold: number(found.failure_threshold, 3, "failureThreshold"),
        grace_seconds: None,
    };
    if let Some(grace) = found.termination_grace_period_seconds {
        let path = path.key("terminationGracePeriodSeconds");
        if grace == 0 {
            notes.problem(&path, "is 0", "Kubernetes asks for 1 at least in a probe");
        }
        probe.grace_seconds = Some(containers::seconds(Some(grace), 30, &path, notes));
    }
    if succeeds_once && probe.success_threshold != 1 {
        let hint = "Kubernetes asks for 1 in liveness and startup probes; leave it out";
        notes.problem(&path.key("successThreshold"), format!("is {}", probe.success_threshold), hint);
    }
    Some(Probe { handler: handler?, ..probe })
}

/// `lifecycle.preStop`.
pub(super) fn pre_stop(
    found: &Container,
    ports: &Ports<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Handler> {
    let hook = found.lifecycle.as_ref()?.pre_stop.as_ref()?;
    let given = Given {
        exec: hook.exec.as_ref(),
        http_get: hook.http_get.as_ref(),
        tcp_socket: hook.tcp_socket.as_ref(),
        sleep: hook.sleep.as_ref().map(|sleep| sleep.seconds),
        other: false,
    };
    handler(&given, "exec, httpGet, tcpSocket and sleep", ports, &path.keys("lifecycle.preStop"), notes)
}

/// What is given of the things that a probe or hook can do.
struct Given<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    sleep: Option<i64>,
    /// Something that only a cluster does.
    other: bool,
}

fn handler(
    given: &Given<'_>,
    choices: &str,
    ports: &Ports<'_>,
    path: &KeyPath,
    notes: &mut Notes,
) -> Option<Handler> {
    let several = [
        given.exec.is_some(),
        given.http_get.is_some(),
        given.tcp_socket.is_some(),
        given.sleep.is_some(),
        given.other,
    ];
    let count = several.iter().filter(|is_given| **is_given).count();
    if count != 1 {
        let what = if count == 0 { "says nothing to do" } else { "says more than one thing to do" };
        notes.problem(path, what, format!("say exactly one of {choices}"));
        return None;
    }
    if let Some(exec) = given.exec {
        let command = exec.command.clone().unwrap_or_default();
        if command.first().is_none_or(String::is_empty) {
            notes.problem(
                &path.keys("exec.command"),
                "names no program",
                "say for example [cat, /tmp/healthy]",
            );
        }
        return Some(Handler::Exec(command));
    }
    if let Some(seconds) = given.sleep {
        return Some(Handler::Sleep(containers::seconds(
            Some(seconds),
            0,
            &path.keys("sleep.seconds"),
            notes,
        )));
    }
    if let Some(http) = given.http_get {
        let path = path.key("httpGet");
        if http.scheme.as_deref() == Some("HTTPS") {
            notes.needs_cluster(&path.key("scheme"), "probes speak plain HTTP here");
        }
        named_host(http.host.as_deref(), &path, notes);
        let headers = http.http_headers.iter().flatten();
        return Some(Handler::HttpGet {
            host: http.host.clone(),
            port: ports.resolve(&http.port, &path.key("port"), notes)?,
            path: http.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
            headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
        });
    }
    let tcp = given.tcp_socket?;
    named_host(tcp.host.as_deref(), &path.key("tcpSocket"), notes);
    let port = ports.resolve(&tcp.port, &path.keys("tcpSocket.port"), notes)?;
    Some(Handler::TcpSocket { host: tcp.host.clone(), port })
}

/// Probes and hooks here go to addresses only.
fn named_host(host: Option<&str>, path: &KeyPath, notes: &mut Notes) {
    if host.is_some_and(|host| !is_address(host)) {
        notes.needs_cluster(&path.key("host"), "names are not resolved here, IP addresses are taken");
    }
}

/// A host of digits and dots is an IPv4 address, and no name has a colon.
fn is_address(host: &str) -> bool {
    let number = |part: &str| part.parse::<u8>().is_ok_and(|number| number.to_string() == part);
    host.contains(':') || (host.split('.').count() == 4 && host.split('.').all(number))
}
