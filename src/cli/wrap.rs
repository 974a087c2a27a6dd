//! `gatehouse wrap`: one command behind the gateway, without a file.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    auth::{self, key},
    cli::{USAGE, WrapArgs, life, welcome::Welcome},
    config::{BackendEntry, Config, Exposed, Parts, is_backend_name},
    glob::Globs,
    sandbox::Profile,
    secret::Secret,
    tls,
};

/// What stands before the backend.
pub(super) struct Front {
    pub(super) addresses: Vec<SocketAddr>,
    /// Certificate and key; without them a certificate of our own is made.
    pub(super) tls: Option<(PathBuf, PathBuf)>,
    pub(super) key: Secret,
    /// Where it stands; without it the key is new and has to be shown.
    pub(super) key_file: Option<PathBuf>,
}

/// Serves a command until it is told to stop. Exits with 2 when the arguments don't hold.
#[must_use]
pub fn run(args: &WrapArgs) -> ExitCode {
    match (backend(args), front(args)) {
        (Ok(backend), Ok(front)) => start(backend, front),
        (Err(problem), _) | (_, Err(problem)) => {
            life::say(&format!("gatehouse: {problem}\n"));
            ExitCode::from(USAGE)
        }
    }
}

/// Runs one backend with everything granted to the one key.
pub(super) fn start(mut backend: BackendEntry, front: Front) -> ExitCode {
    if !cfg!(target_os = "linux") {
        // There is no file that could say so.
        life::say("warning: this system can't enforce a sandbox: the command runs without one\n");
        backend.config.child.sandbox.profile = Profile::Off;
    }
    let name = backend.config.name.clone();
    let source = match &front.tls {
        Some((cert, key)) => tls::Source::Files {
            cert: cert.clone(),
            key: key.clone(),
        },
        None => {
            let names = names(&front.addresses);
            let dir = match state_dir(&names) {
                Ok(dir) => dir,
                Err(error) => return failed(&format!("no folder for the certificate: {error}")),
            };
            tls::Source::SelfSigned { dir, names }
        }
    };
    let self_signed = front.tls.is_none();
    let entry = key::Entry {
        name: name.clone(),
        sha256: key::digest(front.key.expose()),
        roles: vec!["all".to_owned()],
        expires: None,
    };
    let parts = Parts {
        addresses: front.addresses,
        tls: tls::Config {
            source,
            keylog: false,
            clients: None,
        },
        auth: auth::Config {
            anonymous: false,
            keys: vec![entry],
            ..auth::Config::default()
        },
        backends: vec![backend],
    };
    let config = match hiding(parts, front.key_file.clone()) {
        Ok(config) => config,
        Err(error) => return failed(&error.to_string()),
    };
    life::run(config, None, |gateway| {
        let certificate = gateway.certificate().filter(|_| self_signed);
        let welcome = Welcome {
            backend: &name,
            addresses: &gateway.local_addrs(),
            certificate: certificate.as_ref().map(|(path, _)| path.as_path()),
            fingerprint: certificate
                .as_ref()
                .map(|(_, fingerprint)| fingerprint.as_str()),
            key: front.key_file.is_none().then_some(&front.key),
            key_file: front.key_file.as_deref(),
            tls: true,
        };
        life::say(&welcome.text());
    })
}

/// A configuration under which no child can read the key's file.
fn hiding(parts: Parts, key_file: Option<PathBuf>) -> Result<Config, Exposed> {
    let mut config = Config::without_file(parts)?;
    // With its folder, where other runs keep the certificates that their clients trust.
    let kept = state_root().map(|root| root.join("gatehouse-key.pem"));
    let held = kept.filter(|file| file.parent().is_some_and(std::path::Path::is_dir));
    config.own_files.extend(held);
    // A pipe, as of `<(…)`, has nothing more to give.
    config
        .own_files
        .extend(key_file.filter(|file| file.is_file()));
    Ok(config)
}

/// Says what went wrong.
pub(super) fn failed(message: &str) -> ExitCode {
    life::say(&format!("gatehouse: {message}\n"));
    ExitCode::FAILURE
}

fn backend(args: &WrapArgs) -> Result<BackendEntry, String> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.command).ok_or("can't make a name from the command; use --name")?,
    };
    let mut backend = BackendEntry::new(name, args.command.clone());
    backend.config.isolation = args.isolation;
    backend.config.warm = 1;
    let child = &mut backend.config.child;
    child.cwd = match &args.cwd {
        Some(cwd) => Some(std::path::absolute(cwd).map_err(|error| format!("--cwd: {error}"))?),
        None => None,
    };
    child.env = args
        .env
        .iter()
        .map(|set| (set.name.clone(), set.value.clone()))
        .collect();
    crate::backend::child::resolve(child).map_err(|error| error.to_string())?;
    backend.filter.tools.allow = globs("--allow-tool", &args.allow_tool)?;
    backend.filter.tools.deny = globs("--deny-tool", &args.deny_tool)?;
    Ok(backend)
}

fn globs(flag: &str, patterns: &[String]) -> Result<Option<Globs>, String> {
    if patterns.is_empty() {
        return Ok(None);
    }
    Globs::new(patterns.to_vec())
        .map(Some)
        .map_err(|(_, error)| format!("{flag}: {error}"))
}

fn front(args: &WrapArgs) -> Result<Front, String> {
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let key = match &args.key_file {
        Some(file) => read_key(file)?,
        None => key::generate().map_err(|error| format!("no randomness for a key: {error}"))?,
    };
    Ok(Front {
        addresses: args.listen.clone(),
        tls,
        key,
        key_file: match &args.key_file {
            Some(file) => {
                Some(std::path::absolute(file).map_err(|error| format!("--key-file: {error}"))?)
            }
            None => None,
        },
    })
}

/// The first line of a file is the key.
fn read_key(file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("--key-file {}: {error}", file.display()))?;
    if crate::secret::is_exposed(file) {
        let name = file.display();
        return Err(format!(
            "--key-file {name}: other users can read it; run chmod 600 {name}"
        ));
    }
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        let name = file.display();
        return Err(format!("--key-file {name}: its first line is empty"));
    }
    if line.len() < GOOD_KEY {
        life::say(&format!(
            "warning: --key-file {}: a key of fewer than {GOOD_KEY} characters can be guessed; \
             `gatehouse key new NAME` makes a good one\n",
            file.display()
        ));
    }
    if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
        let name = file.display();
        return Err(format!(
            "--key-file {name}: a key is printable ASCII without spaces"
        ));
    }
    Ok(Secret::new(line))
}

/// `npx -y @modelcontextprotocol/server-filesystem /srv` is `filesystem`.
fn name_of(command: &[String]) -> Option<String> {
    let command = without_env(command);
    let program = Path::new(command.first()?).file_name()?.to_str()?;
    let runs_another = RUNNERS.contains(&program);
    let arguments = command
        .iter()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'));
    let package = arguments
        .map(String::as_str)
        .find(|argument| !matches!(*argument, "run" | "exec"));
    let what = if runs_another {
        package.unwrap_or(program)
    } else {
        program
    };
    let last = what.rsplit(['/', '\\']).next().unwrap_or(what);
    let last = last
        .split('@')
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or(last);
    let stem = last.split('.').next().unwrap_or(last);
    let short = ["mcp-server-", "server-", "mcp-"]
        .iter()
        .find_map(|prefix| stem.strip_prefix(prefix));
    let name: String = short
        .unwrap_or(stem)
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    is_backend_name(&name).then_some(name)
}

/// The command that `env` runs, without what it sets.
fn without_env(command: &[String]) -> &[String] {
    let is_env = |word: &String| {
        Path::new(word)
            .file_name()
            .is_some_and(|name| name == "env")
    };
    match command.split_first() {
        Some((first, rest)) if is_env(first) => {
            let sets = |word: &&String| word.starts_with('-') || word.contains('=');
            let set = rest.iter().take_while(sets).count();
            without_env(&rest[set..])
        }
        _ => command,
    }
}

/// What the certificate has to name beside this machine's own names, which all have.
fn names(addresses: &[SocketAddr]) -> Vec<String> {
    let addresses = addresses.iter().map(SocketAddr::ip);
    let own = |ip: &IpAddr| *ip == Ipv4Addr::LOCALHOST || *ip == Ipv6Addr::LOCALHOST;
    let mut named: Vec<_> = addresses
        .filter(|ip| !ip.is_unspecified() && !own(ip))
        .collect();
    named.sort_unstable();
    named.dedup();
    named.iter().map(IpAddr::to_string).collect()
}

/// The folder of all that outlives a run, where there is a home.
fn state_root() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("gatehouse"))
}

/// Where what outlives a run is kept: a certificate that clients trust must stay the same, also when
/// one with other names is needed beside it. Where there is no home, a folder for this run.
fn state_dir(names: &[String]) -> std::io::Result<PathBuf> {
    let folder = state_root().map(|root| names.iter().fold(root, |dir, name| dir.join(name)));
    let lasting = folder.map(|dir| private_dir(&dir, true));
    if let Some(Ok(dir)) = lasting {
        return Ok(dir);
    }
    let number = getrandom::u64().map_err(std::io::Error::other)?;
    private_dir(
        &std::env::temp_dir().join(format!("gatehouse-{number:016x}")),
        false,
    )
}

/// A folder that nobody else can look into; `shared`: it may be there already.
fn private_dir(dir: &Path, shared: bool) -> std::io::Result<PathBuf> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(shared).create(dir)?;
    Ok(dir.to_owned())
}

/// Programs that run a package named by an argument.
const RUNNERS: &[&str] = &[
    "npx", "bunx", "uvx", "uv", "pipx", "pnpm", "node", "python", "python3", "deno", "bun", "sh",
];
/// A shorter key could be guessed.
const GOOD_KEY: usize = 16;

#[cfg(test)]
mod tests {
    use super::{name_of, names};

    fn name(command: &str) -> Option<String> {
        name_of(&command.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_backend_is_named_after_what_it_runs() {
        for (command, expected) in [
            (
                "npx -y @modelcontextprotocol/server-filesystem /srv",
                "filesystem",
            ),
            (
                "npx -y @modelcontextprotocol/server-everything@1.2.3",
                "everything",
            ),
            ("uvx mcp-server-git --repository /x", "git"),
            ("/usr/local/bin/mcp-server-time", "time"),
            ("python3 server.py", "server"),
            ("./my_tool", "my_tool"),
            ("env A=b foo", "foo"),
            ("/usr/bin/env -i A=b B=c npx -y mcp-server-git", "git"),
        ] {
            assert_eq!(name(command).as_deref(), Some(expected), "{command}");
        }
    }

    #[test]
    fn addresses_that_every_certificate_names_need_none_of_their_own() {
        let named = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            names(&addresses.collect::<Vec<_>>())
        };
        assert!(named(&["127.0.0.1:1", "[::1]:2", "0.0.0.0:3"]).is_empty());
        let both = ["10.0.0.2", "127.0.0.2"];
        assert_eq!(named(&["127.0.0.2:1", "10.0.0.2:1", "10.0.0.2:2"]), both);
        assert_eq!(named(&["10.0.0.2:9", "127.0.0.1:1", "127.0.0.2:1"]), both);
    }
}
