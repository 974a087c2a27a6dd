//! `gatehouse install`: what `npx` and `uvx` would fetch at each start is fetched once.
//!
//! Owns the run over the backends and what is told of it. No server is run, and nothing of a package
//! either, unless `--allow-scripts` says so. Invariant: what is in use is whole: an installation is
//! recorded by one rename when all of it is there, and the one before stays for those that run it.

mod environment;
mod files;
mod local;
mod steps;
mod tool;

use std::process::ExitCode;

use nix::sys::stat::{Mode, umask};

use crate::{
    backend::{Config as BackendConfig, child::Spawner},
    cli::{InstallArgs, USAGE, life},
    config::{Config, Strictness},
    drain::Drain,
    package::{Place, Record, Spec},
    pin::hidden::escape,
    sandbox::Profile,
};

use self::{steps::Order, tool::Tool};

/// Installs what the backends ask for.
#[must_use]
pub fn run(args: &InstallArgs) -> ExitCode {
    let config = match Config::load(&args.config, Strictness::Serve) {
        Ok(config) => config,
        Err(problems) => {
            life::say(&problems.for_stderr());
            return ExitCode::from(USAGE);
        }
    };
    let all: Vec<_> = config.backends.iter().map(|entry| &entry.config).collect();
    let chosen: Vec<_> = match &args.backend {
        None => all.clone(),
        Some(name) => all.iter().copied().filter(|b| b.name == *name).collect(),
    };
    if chosen.is_empty() {
        let names: Vec<_> = all.iter().map(|b| b.name.as_str()).collect();
        life::say(&format!(
            "error: {} has no such backend; it has {}\n",
            args.config.display(),
            names.join(", ")
        ));
        return ExitCode::from(USAGE);
    }
    match install(args, &config, &chosen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            life::say(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// False when something could not be installed, which was told.
fn install(args: &InstallArgs, config: &Config, chosen: &[&BackendConfig]) -> anyhow::Result<bool> {
    let (orders, mut good) = orders(args, chosen);
    if orders.is_empty() {
        if good {
            life::say("nothing to install: no backend runs `npx` or `uvx`\n");
        }
        return Ok(good);
    }
    // Children of other users have to read it, and nobody else may change it.
    umask(Mode::from_bits_truncate(0o022));
    let folder = &config.packages;
    files::examine(folder)?;
    for (backend, _) in &orders {
        files::examine(&Place::of(folder, &backend.name).folder)?;
    }
    files::make(folder)?;
    let _alone = files::lock(folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let drain = Drain::new();
        let spawner = Spawner::new(drain.clone()).await?;
        for (backend, spec) in orders {
            let place = Place::of(folder, &backend.name);
            files::make(&place.folder)?;
            let order = Order {
                tool: Tool {
                    backend,
                    spawner: &spawner,
                },
                spec,
                place,
                config: &args.config,
                scripts: args.allow_scripts,
            };
            good &= one(args, &order).await;
        }
        drain.close();
        drain.wait().await;
        anyhow::Ok(())
    })?;
    Ok(good)
}

/// What is to be installed for which backend; false when something that was asked for can't be.
fn orders<'a>(
    args: &InstallArgs,
    chosen: &[&'a BackendConfig],
) -> (Vec<(&'a BackendConfig, Spec)>, bool) {
    let mut good = true;
    let mut orders = Vec::new();
    for &backend in chosen {
        let name = &backend.name;
        let strict = backend.child.sandbox.profile == Profile::Strict;
        match Spec::of(&backend.child.command) {
            Some(Ok(spec)) => orders.push((backend, spec)),
            Some(Err(unclear)) if args.backend.is_some() || strict => {
                life::say(&format!(
                    "error: {name}: can't be installed ahead: {unclear}\n"
                ));
                good = false;
            }
            Some(Err(unclear)) => {
                life::say(&format!("{name}: left to its command: {unclear}\n"));
            }
            None if args.backend.is_some() => {
                life::say(&format!("error: {name} runs neither `npx` nor `uvx`\n"));
                good = false;
            }
            None => {}
        }
    }
    (orders, good)
}

/// True when it is installed now.
async fn one(args: &InstallArgs, order: &Order<'_>) -> bool {
    let name = &order.tool.backend.name;
    let before = order.in_use();
    if !args.upgrade
        && let Some(record) = before.as_ref().filter(|record| order.is_met_by(record))
    {
        life::say(&format!(
            "{name}: is installed: {}\n",
            escape(&record.summary())
        ));
        return true;
    }
    let taken = before.as_ref().and_then(|before| order.taken_by(before));
    if let Some(other) = taken {
        life::say(&format!(
            "error: {name}: what is installed for it is in use by {}: name another `[packages] folder` \
             in one of the two\n",
            escape(&other.display().to_string())
        ));
        return false;
    }
    life::say(&format!(
        "{name}: installing {}\n",
        order.spec.packages.join(", ")
    ));
    match order.carry_out(before.as_ref()).await {
        Ok(record) => {
            tell(order, before.as_ref(), &record);
            true
        }
        Err(error) => {
            let text = format!("{error:#}");
            let lines: Vec<_> = text.lines().map(escape).collect();
            life::say(&format!("error: {name}: {}\n", lines.join("\n")));
            false
        }
    }
}

fn tell(order: &Order<'_>, before: Option<&Record>, now: &Record) {
    let name = &order.tool.backend.name;
    life::say(&format!("{name}: installed {}\n", escape(&now.summary())));
    let unrun = order.unrun_scripts(now);
    if !unrun.is_empty() {
        life::say(&format!(
            "{name}: these have install scripts, which were not run: {}. If the server fails without \
             them: gatehouse install --backend {name} --upgrade --allow-scripts\n",
            escape(&unrun.join(", "))
        ));
    }
    let changed = before.is_none_or(|before| before.digest != now.digest);
    if changed && order.tool.backend.pins.is_on() {
        life::say(&format!(
            "{name}: it has pins, and is not what was pinned: gatehouse pin --backend {name}\n"
        ));
    }
}
