//! The child itself, over its standard input and output: what there is to lose.

use std::process::Stdio;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{INITIALIZED, initialize};
use crate::call::{Call, answered};
use crate::json;
use crate::tally::{Run, nanos};

/// One child; the session is its life.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    buffer: Vec<u8>,
    number: usize,
}

impl Session {
    /// Starts the child and initializes it.
    ///
    /// # Errors
    /// It can't be started, or doesn't answer as the protocol says.
    pub async fn open(command: &[String], number: usize, run: &Run) -> anyhow::Result<Self> {
        let dialled = Instant::now();
        let (program, arguments) = command.split_first().context("no command")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let spawned = Instant::now();
        let mut session = Self {
            child,
            stdin,
            stdout,
            buffer: Vec::new(),
            number,
        };
        let mut hello = initialize();
        hello.push(b'\n');
        session.stdin.write_all(&hello).await?;
        session.fill().await?;
        let line = memchr::memchr(b'\n', &session.buffer).context("no answer to initialize")?;
        if json::envelope(&session.buffer[..line]).result.is_none() {
            bail!("initialize was refused");
        }
        session.buffer.drain(..=line);
        session
            .stdin
            .write_all(&[INITIALIZED, b"\n"].concat())
            .await?;
        let mut tally = run.tally.borrow_mut();
        tally.connect.record(nanos(spawned - dialled));
        tally.open.record(nanos(spawned.elapsed()));
        drop(tally);
        Ok(session)
    }

    /// Keeps the run's number of calls in flight until it stops; then the child's input closes and
    /// it ends.
    pub async fn work(mut self, run: Rc<Run>) {
        if let Err(error) = self.calls(&run).await {
            run.tally.borrow_mut().error(&format!("pipe: {error}"));
        }
        drop(self.stdin);
        let _ = self.child.wait().await;
    }

    async fn calls(&mut self, run: &Run) -> anyhow::Result<()> {
        let mut flight: Vec<(Call, Option<Instant>)> = Vec::new();
        let mut out = Vec::new();
        for slot in 0..run.inflight {
            let mut call = Call::default();
            call.write(&run.shape, self.number, 1 + slot as u64);
            push_line(&mut out, &call.body);
            flight.push((call, Some(run.start())));
        }
        let mut open = run.inflight;
        while open > 0 {
            self.stdin.write_all(&out).await?;
            out.clear();
            self.fill().await?;
            let mut from = 0;
            while let Some(step) = memchr::memchr(b'\n', &self.buffer[from..]) {
                let message = json::envelope(&self.buffer[from..from + step]);
                from += step + 1;
                let Some(id) = answered(&message) else {
                    continue;
                };
                let slot = (id.wrapping_sub(1) % flight.len() as u64) as usize;
                let (call, started) = &mut flight[slot];
                let Some(sent) = started.take_if(|_| call.id == id) else {
                    run.tally.borrow_mut().stray += 1;
                    continue;
                };
                run.finish(sent, &call.judge(&run.shape, &message));
                if run.going() {
                    call.write(&run.shape, self.number, id + run.inflight as u64);
                    push_line(&mut out, &call.body);
                    *started = Some(run.start());
                } else {
                    open -= 1;
                }
            }
            self.buffer.drain(..from);
        }
        Ok(())
    }

    /// Reads at least up to the next line end.
    async fn fill(&mut self) -> anyhow::Result<()> {
        loop {
            let before = self.buffer.len();
            self.buffer.reserve(64 * 1024);
            if self.stdout.read_buf(&mut self.buffer).await? == 0 {
                bail!("the child closed its output");
            }
            if memchr::memchr(b'\n', &self.buffer[before..]).is_some() {
                return Ok(());
            }
        }
    }
}

fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.push(b'\n');
}
