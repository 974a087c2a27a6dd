//! The official conformance suite through the gateway: what a revision requires of servers, in
//! front of a server of each era.
//!
//! Stricter than the suite: a warning and a skipped check fail a scenario, and what a revision
//! doesn't require has to pass too.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

use serde_json::Value;

use crate::{
    gateway::{GATEWAY, KEY, node, repository},
    installed,
    program::{Place, run},
};

/// The longest that one run of the suite may take.
const SUITE_TIMEOUT: Duration = Duration::from_secs(300);

macro_rules! cells {
    ($($revision:ident: $name:literal requires $count:literal, of $($era:ident)*;)*) => {
        $(mod $revision {
            $(#[test]
            fn $era() {
                crate::conformance::check($name, stringify!($era), $count);
            })*
        })*
    };
}

cells! {
    revision_2025_11_25: "2025-11-25" requires 30, of legacy modern;
    revision_2026_07_28: "2026-07-28" requires 37, of legacy modern;
}

/// Runs what a revision requires in front of a server of one era.
fn check(revision: &str, era: &str, count: usize) {
    if !installed() {
        return;
    }
    let _place = Place::take();
    let gateway = LazyLock::force(&GATEWAY);
    let results = gateway.dir.join(format!("results-{revision}-{era}"));
    let suite = package().join("dist/index.js");
    let mut command = Command::new(node());
    command
        .arg("--import")
        .arg(repository().join("tests/conformance/authorize.mjs"))
        .arg(suite)
        .args(["server", "--requirements", revision, "--url"])
        .arg(gateway.url(&format!("conformance_{era}"), "mcp"))
        .arg("-o")
        .arg(&results)
        .env("GATEHOUSE_KEY", KEY)
        .env("NODE_EXTRA_CA_CERTS", gateway.certificate());
    let said = run(command, SUITE_TIMEOUT);
    assert!(said.in_time, "the suite hangs:\n{said}");

    let required = required(revision);
    assert_eq!(required.len(), count, "the suite requires something else");
    let outcomes = outcomes(&results);
    let absent = required.iter().filter(|name| !outcomes.contains_key(*name));
    let mut problems: Vec<_> = absent.map(|name| format!("{name}: was not run")).collect();
    let same_era = (revision == "2026-07-28") == (era == "modern");
    for (scenario, faults) in &outcomes {
        // The two forms of tasks have nothing in common; neither crosses.
        if same_era || !scenario.starts_with("tasks-") {
            problems.extend(faults.iter().map(|fault| format!("{scenario}: {fault}")));
        }
    }
    let failed = required
        .iter()
        .filter(|name| outcomes.get(*name).is_none_or(|faults| !faults.is_empty()))
        .count();
    assert!(
        problems.is_empty(),
        "{}/{count} required scenarios of {revision} pass in front of a {era} server:\n{}\n\
         the suite:\n{said}\ngateway:\n{}",
        count - failed,
        problems.join("\n"),
        gateway.log_end()
    );
}

fn package() -> PathBuf {
    repository().join("tests/conformance/node_modules/@modelcontextprotocol/conformance")
}

/// The scenarios that a revision requires of a server.
fn required(revision: &str) -> Vec<String> {
    let list = package().join(format!("requirements/{revision}.yaml"));
    let list = fs::read_to_string(list).expect("scripts/test installs the suite");
    list.lines()
        .skip_while(|line| *line != "server:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  - "))
        .map(str::to_owned)
        .collect()
}

/// Of each scenario that was run, what did not succeed.
fn outcomes(results: &Path) -> BTreeMap<String, Vec<String>> {
    let folders = fs::read_dir(results).expect("the suite leaves its results");
    let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in folders {
        let folder = folder.expect("a folder").path();
        let name = scenario(&folder);
        let faults = outcomes.entry(name.clone()).or_default();
        let Ok(checks) = fs::read(folder.join("checks.json")) else {
            faults.push("the scenario broke off".to_owned());
            continue;
        };
        let checks: Vec<Value> = serde_json::from_slice(&checks).expect("checks are JSON");
        faults.extend(checks.iter().filter_map(|check| fault(&name, check)));
    }
    outcomes
}

/// What is wrong with a check, if anything.
fn fault(scenario: &str, check: &Value) -> Option<String> {
    let status = check["status"].as_str().expect("a check has a status");
    // The suite skips this one itself.
    let fine = matches!(status, "SUCCESS" | "INFO")
        || (scenario == "tasks-status-notifications" && status == "SKIPPED");
    let said = check["errorMessage"].as_str().unwrap_or("(no message)");
    (!fine).then(|| format!("{status} {}: {said}", check["id"]))
}

/// The scenario whose results a folder holds: `server-NAME-2026-01-02T03-04-05-678Z`.
fn scenario(folder: &Path) -> String {
    let name = folder.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| name.strip_prefix("server-"));
    let name = name.and_then(|name| name.get(..name.len().checked_sub(25)?));
    name.expect("a folder named after a scenario").to_owned()
}
