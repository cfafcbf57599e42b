//! Programs that are called: `kind`, and the container engine below it.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::backend::BackendError;

/// So many of the last lines are shown when a program fails.
const TAIL: usize = 12;

/// Runs a program to its end; what it prints goes to the log as it comes, and with its failure the last of it.
pub(super) async fn run(program: &str, args: &[&str]) -> Result<String, BackendError> {
    run_with_input(program, args, b"").await
}

/// The same, with something on its standard input.
pub(super) async fn run_with_input(
    program: &str,
    args: &[&str],
    input: &[u8],
) -> Result<String, BackendError> {
    tracing::debug!("{program} {}", args.join(" "));
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A terminal's Ctrl-C is for this run, which then asks kind to tidy up.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| not_there(program, &error))?;
    let group = Group::of(&child);
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // Whoever does not read it says so by its status.
            let _ = stdin.write_all(input).await;
        }
    };
    let ((), printed, complained) = tokio::join!(feed, heard(out, false), heard(err, true));
    let status =
        child.wait().await.map_err(|error| BackendError::doing(format!("wait for {program}"), error))?;
    group.let_go();
    if status.success() {
        return Ok(printed);
    }
    let what = args.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    let why = why(&complained);
    Err(BackendError(format!("{program} {what} failed ({status}):\n{}{}", why.join("\n"), hint(&why))))
}

/// A program and all that it has started, which die with whoever waits for them.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    /// It is over.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// All that a program prints.
async fn heard(stream: Option<impl AsyncRead + Unpin>, log: bool) -> String {
    let mut all = String::new();
    let Some(stream) = stream else { return all };
    // Not everything that is printed is UTF-8, and what is not read blocks who prints it.
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        if log {
            tracing::info!("{line}");
        }
        all.push_str(&line);
        all.push('\n');
    }
    all
}

/// What of a program's complaints tells why it failed: what kind calls its error, and the last lines before its own stack.
fn why(complained: &str) -> Vec<&str> {
    let lines: Vec<&str> = complained
        .lines()
        .take_while(|line| !line.starts_with("Stack Trace:"))
        .filter(|line| !line.is_empty())
        .collect();
    let (before, tail) = lines.split_at(lines.len().saturating_sub(TAIL));
    before.iter().filter(|line| line.starts_with("ERROR:")).chain(tail).copied().collect()
}

fn not_there(program: &str, error: &std::io::Error) -> BackendError {
    let hint = match program {
        "kind" => "install it (https://kind.sigs.k8s.io), or use `--on cluster --context NAME`",
        _ => {
            "kind needs a container engine: install Docker or podman (and set KIND_EXPERIMENTAL_PROVIDER=podman)"
        }
    };
    BackendError(format!("cannot run {program}: {error}; {hint}"))
}

/// What to do about the usual failures.
fn hint(tail: &[&str]) -> &'static str {
    let says = |text: &str| tail.iter().any(|line| line.contains(text));
    if says("permission denied") {
        "\nmay this user use the container engine?"
    } else if says("Cannot connect to the Docker daemon") {
        "\nstart the container engine"
    } else if says("no space left") {
        "\nfree some disk space"
    } else if says("failed to pull image") || says("manifest unknown") {
        "\nis there a registry to pull the node image from? --node-image names one that is here"
    } else if says("getaddrinfo") || says("no such host") || says("could not resolve host") {
        "\ndo the nodes find each other by name? podman's network needs aardvark-dns, or the CNI plugin dnsname"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kind_calls_its_error_comes_first_and_its_stack_never() {
        let output: Vec<String> = (0..30).map(|line| format!("output {line}")).collect();
        let output = output.join("\n");
        let said = format!(
            "ERROR: failed to create cluster\n\nCommand Output:\n{output}\nStack Trace: \nsigs.k8s.io/kind/pkg/errors\n"
        );
        let why = why(&said);
        assert_eq!((why.len(), why[0]), (TAIL + 1, "ERROR: failed to create cluster"));
        assert_eq!((why[1], why[TAIL]), ("output 18", "output 29"));
        assert_eq!(super::why("only this\n"), ["only this"]);
    }
}
