//! What it is as a process: its arguments, its signals, its end, its grandchild.

use std::{
    io::{self, Read, Write},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal, raise};

/// How long an orphan sleeps at most, so that a failed test leaves nothing for ever.
const ORPHAN_LIFE: Duration = Duration::from_secs(900);

/// The arguments of the command line; the table at the head of the program says what they do.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) slow_start: Duration,
    pub(crate) start_when: Option<String>,
    pub(crate) mute: bool,
    pub(crate) refuse: bool,
    pub(crate) no_lists: bool,
    pub(crate) exit_at_start: Option<i32>,
    pub(crate) exit_after: Option<u64>,
    pub(crate) stubborn: bool,
    pub(crate) never_read: bool,
    pub(crate) bom: bool,
    pub(crate) crlf: bool,
    pub(crate) junk: u64,
    pub(crate) endless: u64,
    pub(crate) stderr: u64,
    pub(crate) grandchild: Option<String>,
    pub(crate) page: Option<usize>,
    pub(crate) lists: Option<String>,
    pub(crate) name: String,
    /// Grandchild, first step: leave the session, start the orphan, end.
    leave: Option<String>,
    /// Grandchild, second step: sleep.
    orphan: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            name: "misbehave".to_owned(),
            ..Self::default()
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or(format!("{name} takes a value"));
            match name.as_str() {
                "--slow-start" => options.slow_start = Duration::from_millis(number(&value()?)?),
                "--start-when" => options.start_when = Some(value()?),
                "--mute" => options.mute = true,
                "--refuse" => options.refuse = true,
                "--no-lists" => options.no_lists = true,
                "--exit-at-start" => options.exit_at_start = Some(number(&value()?)?),
                "--exit-after" => options.exit_after = Some(number(&value()?)?),
                "--stubborn" => options.stubborn = true,
                "--never-read" => options.never_read = true,
                "--bom" => options.bom = true,
                "--crlf" => options.crlf = true,
                "--junk" => options.junk = number(&value()?)?,
                "--endless" => options.endless = number(&value()?)?,
                "--stderr" => options.stderr = number(&value()?)?,
                "--grandchild" => options.grandchild = Some(value()?),
                "--page" => options.page = Some(number(&value()?)?),
                "--lists" => options.lists = Some(value()?),
                "--name" => options.name = value()?,
                "--marker" => drop(value()?),
                "--leave" => options.leave = Some(value()?),
                "--orphan" => {
                    value()?;
                    options.orphan = true;
                }
                _ => return Err(format!("no such argument: {name}")),
            }
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

/// What happens before the first line.
pub(crate) fn before_start(options: &Options) {
    if options.orphan {
        thread::sleep(ORPHAN_LIFE);
        process::exit(0);
    }
    if let Some(marker) = &options.leave {
        leave(marker);
    }
    if let Some(code) = options.exit_at_start {
        process::exit(code);
    }
    if options.stubborn {
        // Blocked in this thread, and so in every later one, it is never delivered.
        let _ = SigSet::from(Signal::SIGTERM).thread_block();
    }
}

/// Ends this process in a way that no answer follows.
pub(crate) fn crash(how: &str, code: i32) -> ! {
    match how {
        "abort" => process::abort(),
        "segv" => loop {
            // The runtime's own handler takes the first one and steps aside.
            let _ = raise(Signal::SIGSEGV);
        },
        _ => process::exit(code),
    }
}

/// Starts a grandchild in a session of its own, whose parent has ended; its process id.
///
/// With `hold` it keeps stdin, stdout and stderr open, and its id is not told.
pub(crate) fn grandchild(marker: &str, hold: bool) -> io::Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--leave", marker]);
    if hold {
        command.env("MISBEHAVE_HOLD", "1").status()?;
        return Ok(String::new());
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pid = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut pid)?;
    }
    child.wait()?;
    Ok(pid)
}

fn leave(marker: &str) -> ! {
    let hold = std::env::var_os("MISBEHAVE_HOLD").is_some();
    let started = nix::unistd::setsid()
        .map_err(io::Error::from)
        .and_then(|_| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--orphan", marker]);
            if !hold {
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
            }
            command.spawn()
        });
    match started {
        Ok(orphan) if !hold => {
            let _ = write!(io::stdout(), "{}", orphan.id());
            process::exit(0)
        }
        Ok(_) => process::exit(0),
        Err(problem) => {
            let _ = writeln!(io::stderr(), "misbehave: no grandchild: {problem}");
            process::exit(1)
        }
    }
}
