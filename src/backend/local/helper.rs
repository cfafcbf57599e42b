//! Starting this program again as one of its helper processes.

use std::io;
use std::process::Stdio;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A helper process that runs.
#[derive(Debug)]
pub struct Helper {
    /// Its process.
    pub child: Child,
    /// What it is told; when this closes, it ends.
    pub stdin: ChildStdin,
    /// What it tells.
    pub stdout: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    /// Starts `exit137 ROLE` and tells it `spec`.
    pub async fn start(role: &str, spec: &impl Serialize) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(format!("exit137{role}"))
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Out of the terminal's foreground group: a Ctrl-C is the harness's to act on.
            .process_group(0)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a helper process has no pipes"));
        };
        let mut helper = Self { child, stdin, stdout: BufReader::new(stdout).lines() };
        helper.tell(spec).await?;
        Ok(helper)
    }

    /// Tells it one thing.
    pub async fn tell(&mut self, what: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(what)? + "\n";
        self.stdin.write_all(line.as_bytes()).await
    }

    /// The next thing that it tells; `None` when it has ended.
    pub async fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match self.stdout.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }

    /// Lets it end, and answers what it said and whether it succeeded.
    pub async fn output(self) -> io::Result<(bool, String)> {
        let Self { child, stdin, stdout } = self;
        drop(stdin);
        answer(child, stdout).await
    }

    /// Waits until it ends by itself, and answers as much. Whoever gives this up closes its standard input, so it ends then.
    pub async fn output_by_itself(self) -> io::Result<(bool, String)> {
        let Self { child, stdin, stdout } = self;
        let answer = answer(child, stdout).await;
        drop(stdin);
        answer
    }
}

async fn answer(mut child: Child, mut stdout: Lines<BufReader<ChildStdout>>) -> io::Result<(bool, String)> {
    let mut said = Vec::new();
    while let Some(line) = stdout.next_line().await? {
        said.push(line);
    }
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Some(line) = lines.next_line().await? {
            said.push(line);
        }
    }
    Ok((child.wait().await?.success(), said.join("\n")))
}
