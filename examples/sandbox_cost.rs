//! What a sandbox adds to the start of a child: `sandbox_cost GATEHOUSE [ROUNDS]`.
//!
//! From the order to start until the child's first byte, the three profiles in turn, so that a busy
//! machine slows all of them alike; and the time on CPUs of a whole life, the gateway's part of it
//! included, which a busy machine hardly changes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "it is a program of its own, and has nobody to tell"
)]

use std::time::{Duration, Instant};

use gatehouse::{
    backend::child::{Config, Spawner},
    drain::Drain,
    sandbox::{self, Network, Profile},
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use tokio::io::AsyncReadExt;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let launcher = args.next().unwrap();
    let rounds = args.next().map_or(200, |rounds| rounds.parse().unwrap());
    let spawner = Spawner::with_launcher(launcher.into(), Drain::new())
        .await
        .unwrap();
    // Something to hide, as every gateway has.
    let folder = std::env::temp_dir().join(format!("sandbox-cost-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("proxy.toml"), "").unwrap();
    spawner.hide(vec![folder.join("proxy.toml")]);
    let cases = [
        ("off", config(Profile::Off, false)),
        ("basic", config(Profile::Basic, false)),
        ("strict", config(Profile::Strict, false)),
        ("strict, with limits", config(Profile::Strict, true)),
    ];
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (times, (_, config)) in times.iter_mut().zip(&cases) {
            times.push(start(&spawner, config).await);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    println!("start of a child, {rounds} each    p50 ms   over off    CPU ms   over off");
    let mut plain = None;
    for (mut times, (name, _)) in times.into_iter().zip(&cases) {
        times.sort();
        let wall = times[times.len() / 2].0;
        times.sort_by_key(|(_, cpu)| *cpu);
        let cpu = times[times.len() / 2].1;
        let [wall, cpu] = [wall, cpu].map(|time| time.as_secs_f64() * 1e3);
        let (before, used) = *plain.get_or_insert((wall, cpu));
        println!(
            "{name:<30} {wall:>7.2} {:>+10.2} {cpu:>9.2} {:>+10.2}",
            wall - before,
            cpu - used
        );
    }
}

/// On CPUs, of this process and of all that it has waited for.
fn used() -> Duration {
    let of = |who| {
        let used = getrusage(who).unwrap();
        let both = [used.user_time(), used.system_time()];
        both.map(|time| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap()))
    };
    let all = [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN];
    all.into_iter().flat_map(of).sum()
}

fn config(profile: Profile, limits: bool) -> Config {
    let base = sandbox::Config {
        profile,
        network: match profile {
            Profile::Strict => Network::None,
            Profile::Off | Profile::Basic => Network::Full,
        },
        ..sandbox::Config::default()
    };
    let limited = sandbox::Config {
        memory: Some(512 << 20),
        processes: Some(400),
        cpu_time: Some(Duration::from_secs(600)),
        ..base.clone()
    };
    Config {
        command: vec!["echo".to_owned()],
        cwd: None,
        env: Vec::new(),
        inherit_env: Vec::new(),
        stop_timeout: Duration::from_secs(1),
        sandbox: if limits { limited } else { base },
        installed: None,
    }
}

async fn start(spawner: &Spawner, config: &Config) -> (Duration, Duration) {
    let before = used();
    let began = Instant::now();
    let mut child = spawner.spawn(config).await.unwrap();
    let said = child.stdout.read_u8().await;
    let took = began.elapsed();
    assert_eq!(said.ok(), Some(b'\n'), "the child did not start");
    child.process.wait().await;
    (took, used() - before)
}
