//! Every escape under every profile, tried by a real child: the table of README.md.

use std::{
    fmt::Write as _,
    fs::{self, Permissions},
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixDatagram, UnixListener},
        },
    },
    path::{Path, PathBuf},
};

use gatehouse::{
    backend::child::{Child, Config, Containment, Spawner},
    drain::Drain,
    sandbox::{self, Network, Profile, User},
    secret::Secret,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{
    config, containments, host, launcher,
    observe::{mark, sleepers, until},
};

/// What the probe may do, as README.md has it: with `off`, `basic`, `strict`.
struct Row {
    words: &'static str,
    /// The names under which the probe reports it.
    names: &'static [&'static str],
    can: [Can; 3],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Can {
    Yes,
    No,
    /// Where the system has it and the gateway's user may.
    Depends,
}
use Can::{Depends, No, Yes};

const fn row(words: &'static str, names: &'static [&'static str], can: [Can; 3]) -> Row {
    Row { words, names, can }
}

const TABLE: &[Row] = &[
    row(
        "read `~/.ssh` and other files of the user",
        &["ssh", "secret"],
        [Yes, Yes, No],
    ),
    row(
        "read the gateway's configuration, TLS key, lock, audit log",
        &["config", "tls_key", "lock", "audit"],
        [Yes, No, No],
    ),
    row(
        "read the gateway's environment and memory",
        &["environ"],
        [No, No, No],
    ),
    row("signal the gateway", &["kill"], [No, No, No]),
    row(
        "keep a descriptor of the gateway's",
        &["descriptors"],
        [No, No, No],
    ),
    row(
        "outlive its session (`setsid`, double fork)",
        &["survivor"],
        [No, No, No],
    ),
    row(
        "write outside of `write` and TMPDIR",
        &["outside"],
        [Yes, Yes, No],
    ),
    row(
        "read what another instance keeps in TMPDIR",
        &["sibling"],
        [Yes, Yes, No],
    ),
    row("fill the disk by way of TMPDIR", &["disk"], [Yes, Yes, No]),
    row(
        "TCP: this machine, its admin port, anywhere",
        &["tcp"],
        [Yes, Yes, No],
    ),
    row("UDP, and so DNS", &["udp"], [Yes, Yes, No]),
    row(
        "Unix sockets: a container engine, a log",
        &["unix", "unix_datagram"],
        [Yes, Yes, No],
    ),
    row("abstract Unix sockets", &["abstract"], [Yes, Yes, No]),
    row("netlink", &["netlink"], [Yes, Yes, No]),
    row("`/dev/shm`", &["dev_shm"], [Yes, Depends, No]),
    row(
        "vsock, to what runs this machine",
        &["vsock"],
        [Depends, No, No],
    ),
    row(
        "raw and packet sockets",
        &["raw", "packet"],
        [Depends, No, No],
    ),
    row(
        "trace a process, read its memory, take its descriptors",
        &["ptrace", "read_memory", "take_descriptor"],
        [Yes, No, No],
    ),
    row(
        "gain by a set-user-id program",
        &["set_user"],
        [Yes, No, No],
    ),
    row(
        "make a user namespace",
        &["user_namespace", "clone_namespace", "clone3_namespace"],
        [Yes, No, No],
    ),
    row("enter a namespace", &["setns"], [Depends, No, No]),
    row("mount, chroot", &["mount", "chroot"], [Depends, No, No]),
    row(
        "mount by the newer calls",
        &["fsopen", "open_tree", "move_mount", "mount_setattr"],
        [Depends, No, No],
    ),
    row(
        "keyrings, `io_uring`",
        &["keyctl", "add_key", "request_key", "io_uring"],
        [Depends, No, No],
    ),
    row(
        "open a file by its handle",
        &["by_handle"],
        [Depends, No, No],
    ),
    row(
        "type into a terminal (`TIOCSTI`)",
        &["tiocsti", "tiocsti_wide", "tioclinux"],
        [Depends, No, No],
    ),
    row(
        "calls of another ABI (x32, `int 0x80`)",
        &["x32", "int80"],
        [Depends, No, No],
    ),
    row(
        "run code that it brings along or makes, from memory too",
        &["from_memory"],
        [Yes, Yes, Yes],
    ),
    row(
        "bpf, perf, userfaultfd",
        &["bpf", "perf", "userfaultfd"],
        [Depends, No, No],
    ),
    row(
        "raw disks, settings of the kernel",
        &["raw_disk", "kernel_settings"],
        [Depends, No, No],
    ),
    row("leave a core dump", &["core"], [Depends, No, No]),
    row("start more than `processes`", &["fork_bomb"], [Yes, No, No]),
    row("take more than `memory`", &["memory"], [Yes, No, No]),
    row("take more than `cpu_time`", &["cpu"], [Yes, No, No]),
];

const PROFILES: [Profile; 3] = [Profile::Off, Profile::Basic, Profile::Strict];

/// The table as README.md has it.
fn markdown() -> String {
    let mut text =
        "| a child can | `off` | `basic` | `strict` |\n| --- | --- | --- | --- |\n".to_owned();
    for row in TABLE {
        let [off, basic, strict] = row.can.map(|can| match can {
            Yes => "yes",
            No => "no",
            Depends => "as the gateway's user",
        });
        let _ = writeln!(text, "| {} | {off} | {basic} | {strict} |", row.words);
    }
    text
}

#[test]
fn the_table_of_the_readme_is_the_one_that_is_tested() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let table = markdown();
    assert!(readme.contains(&table), "README.md should have:\n{table}");
}

/// A world with everything in it that a child should not get at.
struct World {
    folder: tempfile::TempDir,
    own: Vec<PathBuf>,
    targets: Value,
    _shared: tempfile::NamedTempFile,
    _tcp: TcpListener,
    _udp: UdpSocket,
    _unix: (UnixListener, UnixDatagram, UnixListener),
}

impl World {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("world").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // Open to all, so that nothing but the sandbox keeps a child out.
        let open =
            |path: PathBuf| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        open(folder.path().to_owned());
        for name in ["home/.ssh", "gateway/audit", "secrets", "outside", "tmp"] {
            fs::create_dir_all(at(name)).unwrap();
            open(at(name));
        }
        let own = [
            "gateway/proxy.toml",
            "gateway/key.pem",
            "gateway/gatehouse.lock",
            "gateway/audit/log.jsonl",
        ];
        for name in own
            .iter()
            .chain(&["home/.ssh/id", "secrets/other", "sibling"])
        {
            fs::write(at(name), "secret").unwrap();
            open(at(name));
        }
        fs::copy(probe(), at("probe")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let name = format!("gatehouse-test-{}", mark());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let unix = (
            UnixListener::bind(at("engine.sock")).unwrap(),
            UnixDatagram::bind(at("log.sock")).unwrap(),
            UnixListener::bind_addr(&address).unwrap(),
        );
        open(at("engine.sock"));
        open(at("log.sock"));
        let shared = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        fs::write(shared.path(), "secret").unwrap();
        open(shared.path().to_owned());
        let targets = json!({
            "ssh": at("home/.ssh/id"), "secret": at("secrets/other"), "sibling": at("sibling"),
            "config": at(own[0]), "tls_key": at(own[1]), "lock": at(own[2]), "audit": at(own[3]),
            "gateway": std::process::id(), "outside": at("outside"),
            "sibling_home": folder.path(),
            "tcp": tcp.local_addr().unwrap(), "udp": udp.local_addr().unwrap(),
            "unix": at("engine.sock"), "unix_datagram": at("log.sock"), "abstract": name,
            "dev_shm": shared.path(),
            "memory": 600 << 20, "disk": 300 << 20, "tasks": 500, "stay": true,
        });
        Self {
            own: own.iter().map(|name| at(name)).collect(),
            folder,
            targets,
            _shared: shared,
            _tcp: tcp,
            _udp: udp,
            _unix: unix,
        }
    }
}

fn probe() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_gatehouse"));
    let built = beside.with_file_name("examples").join("probe");
    assert!(built.exists(), "{} was not built", built.display());
    built
}

fn sandboxed(profile: Profile, targets: &Value) -> Config {
    // Beside what it is tried on, where every user may run it.
    let home = Path::new(targets["sibling_home"].as_str().unwrap());
    let words = targets.to_string();
    let mut config = config(&[home.join("probe").to_str().unwrap(), &words]);
    if profile == Profile::Basic {
        let tmp = home.join("tmp").to_str().unwrap().to_owned();
        config.env = vec![("TMPDIR".to_owned(), Secret::new(tmp))];
    }
    config.sandbox = sandbox::Config::off();
    if profile != Profile::Off {
        config.sandbox = sandbox::Config {
            profile,
            memory: Some(512 << 20),
            // Without user namespaces nobody else counts them, and the number is refused.
            processes: (targets["uncounted"] != true).then_some(320),
            ..sandbox::Config::default()
        };
    }
    if profile == Profile::Strict {
        config.sandbox.network = Network::None;
    }
    if targets["as_nobody"] == true && profile != Profile::Off {
        config.sandbox.user = Some(User {
            name: "nobody".to_owned(),
            uid: 65_534,
            gid: 65_534,
        });
    }
    config
}

/// The one line that it says; it stays.
async fn report(child: &mut Child) -> Value {
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        let mut piece = [0; 4096];
        let len = child.stdout.read(&mut piece).await.unwrap();
        if len == 0 {
            let mut reason = String::new();
            child.stderr.read_to_string(&mut reason).await.unwrap();
            panic!("the probe ended: {reason}");
        }
        said.extend_from_slice(&piece[..len]);
    }
    serde_json::from_slice(&said).unwrap()
}

async fn try_all(containment: Containment, profile: Profile) {
    let world = World::new();
    let spawner = Spawner::with(launcher(), containment, Drain::new());
    spawner.hide(world.own.clone());
    let mut targets = world.targets.clone();
    // Nothing there holds root to a number of processes.
    let reaper = containment == Containment::Reaper;
    targets["as_nobody"] = json!(reaper && nix::unistd::geteuid().is_root());
    let counted = spawner.means().together.processes || nix::unistd::geteuid().is_root();
    targets["uncounted"] = json!(reaper && !counted);
    let mark = mark();
    targets["survivor"] = json!(mark);
    if profile == Profile::Strict {
        // Nobody gets further than the system's refusal: this one has no network to send it on.
        targets["far"] = json!("169.254.169.254:80");
        // What a child of `strict` keeps is in a folder that shows in its environment only.
        let shell = "echo kept >$TMPDIR/kept; echo $TMPDIR/kept; read _";
        let mut sibling = config(&["sh", "-c", shell]);
        sibling.sandbox = sandboxed(profile, &targets).sandbox;
        let mut child = spawner.spawn(&sibling).await.unwrap();
        let mut path = [0; 200];
        let len = child.stdout.read(&mut path).await.unwrap();
        targets["sibling"] = json!(String::from_utf8_lossy(&path[..len]).trim());
        check(&spawner, profile, &targets, &mark).await;
        child.process.kill().await;
    } else {
        check(&spawner, profile, &targets, &mark).await;
    }
    drop(world.folder);
}

/// Whether a child of its own gets more than its limit; it may be ended for it.
async fn takes_more(spawner: &Spawner, profile: Profile, targets: &Value, name: &str) -> bool {
    let mut targets = targets.clone();
    targets["only"] = json!(name);
    targets["stay"] = json!(false);
    let mut config = sandboxed(profile, &targets);
    if profile != Profile::Off && name == "cpu" {
        config.sandbox.cpu_time = Some(std::time::Duration::from_secs(1));
    }
    let mut child = spawner.spawn(&config).await.unwrap();
    let mut said = Vec::new();
    child.stdout.read_to_end(&mut said).await.unwrap();
    let said: Value = serde_json::from_slice(&said).unwrap_or_default();
    said[name] == true
}

/// What the table says, but for what the README says of machines without namespaces.
fn expected(can: Can, name: &str, containment: Containment, profile: Profile) -> Can {
    let reaper = containment == Containment::Reaper;
    match name {
        // On the disk, without a bound.
        "disk" if reaper && profile == Profile::Strict => Yes,
        // By number, where they can be seen; and of another's memory nothing.
        "kill" | "survivor" if reaper && profile == Profile::Off => Depends,
        _ => can,
    }
}

async fn check(spawner: &Spawner, profile: Profile, targets: &Value, mark: &str) {
    let before = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let mut child = spawner.spawn(&sandboxed(profile, targets)).await.unwrap();
    let mut report = report(&mut child).await;
    if report["survivor_started"] == true {
        until("the survivor sleeps", || !sleepers(mark).is_empty()).await;
    }
    child.process.kill().await;
    report["survivor"] = json!(!sleepers(mark).is_empty());
    for name in ["memory", "cpu"] {
        report[name] = json!(takes_more(spawner, profile, targets, name).await);
    }
    let column = PROFILES.iter().position(|known| *known == profile).unwrap();
    let mut wrong = Vec::new();
    for row in TABLE {
        for name in row.names {
            let worked = report[*name].as_bool();
            let expected = match *name {
                "fork_bomb" if targets["uncounted"] == true => Depends,
                name => expected(row.can[column], name, spawner.containment(), profile),
            };
            if expected == No && worked != Some(false) || expected == Yes && worked != Some(true) {
                wrong.push(format!("{}: {name}: {worked:?}", row.words));
            }
        }
    }
    assert_eq!(
        wrong,
        Vec::<String>::new(),
        "{profile:?} {}",
        spawner.containment()
    );
    assert_eq!(report["far"], json!(false), "{profile:?}");
    assert_eq!(report["own_tmp"], json!(true), "{profile:?}");
    let after = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    assert_eq!(before, after, "the machine's own settings stay");
}

macro_rules! profiles {
    ($($name:ident $profile:ident $containment:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            let _guard = host::no_hosts().await;
            if containments().await.contains(&Containment::$containment) {
                try_all(Containment::$containment, Profile::$profile).await;
            }
        })*
    };
}

profiles! {
    without_a_sandbox_a_child_can_do_what_the_table_says Off Namespace
    under_basic_a_child_can_do_what_the_table_says Basic Namespace
    under_strict_a_child_can_do_what_the_table_says Strict Namespace
    under_basic_without_namespaces_a_child_can_do_no_more Basic Reaper
    under_strict_without_namespaces_a_child_can_do_no_more Strict Reaper
}
