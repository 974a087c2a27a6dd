use super::*;

fn read(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["gatehouse"].iter().chain(line))
}

#[test]
fn the_definition_is_consistent() {
    definition().debug_assert();
}

#[test]
fn without_a_command_a_file_is_served_and_otherwise_the_demo_starts() {
    let folder = tempfile::tempdir().unwrap();
    let bare = || read(&[]).unwrap();
    assert!(matches!(bare().command_in(folder.path()), Command::Demo));
    std::fs::write(folder.path().join(DEFAULT_CONFIG), "").unwrap();
    let Command::Serve(args) = bare().command_in(folder.path()) else {
        panic!("a file is there");
    };
    assert_eq!(args.config, Path::new("proxy.toml"));
    let named = read(&["demo"]).unwrap();
    assert!(matches!(named.command_in(folder.path()), Command::Demo));
}

#[test]
fn wrap_takes_its_flags_before_and_the_command_after_the_dashes() {
    let cli = read(&[
        "wrap",
        "--name",
        "fs",
        "--listen",
        "127.0.0.1:0",
        "--isolation",
        "principal",
        "--allow-tool",
        "read_*",
        "--allow-tool",
        "list_*",
        "--deny-tool",
        "x",
        "--env",
        "A=b=c",
        "--cwd",
        "/srv",
        "--self-signed",
        "--",
        "npx",
        "-y",
        "--listen",
        "pkg",
    ]);
    let Some(Command::Wrap(args)) = cli.unwrap().command else {
        panic!("wrap was asked for");
    };
    assert_eq!(args.command, ["npx", "-y", "--listen", "pkg"]);
    assert_eq!(args.allow_tool, ["read_*", "list_*"]);
    assert_eq!(args.isolation, Isolation::Principal);
    assert_eq!(args.env[0].name, "A");
    assert_eq!(args.env[0].value.expose(), "b=c");
    assert!(!format!("{args:?}").contains("b=c"));
    assert_eq!(args.listen[0].port(), 0);
}

#[test]
fn wrong_usage_is_refused_with_code_two() {
    for line in [
        &["wrap"][..],
        &["wrap", "npx"],
        &["wrap", "--tls-cert", "a", "--", "x"],
        &[
            "wrap",
            "--tls-cert",
            "a",
            "--tls-key",
            "b",
            "--self-signed",
            "--",
            "x",
        ],
        &["wrap", "--isolation", "none", "--", "x"],
        &["wrap", "--env", "=x", "--", "x"],
        &["wrap", "--name", "a/b", "--", "x"],
        &["wrap", "--listen", "localhost:1", "--", "x"],
        &["key", "new"],
        &["key", "new", "../x"],
        &["key", "new", "anonymous"],
        &["key", "new", "a", "--role", "b c"],
        &["import"],
        &["completions", "cmd"],
        &["serve", "--log-format", "xml"],
        &["pin", "x"],
        &["audit"],
        &["tap"],
        &["install", "x"],
    ] {
        assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line:?}");
    }
}

#[test]
fn log_flags_stand_before_or_after_the_command() {
    for line in [
        ["--log-level", "debug", "man"],
        ["man", "--log-level", "debug"],
    ] {
        let cli = read(&line).unwrap();
        assert_eq!(cli.log.log_level, Some(LogLevel::Debug));
        assert_eq!(cli.log.log_format, LogFormat::Text);
    }
}

#[test]
fn completions_and_the_page_name_every_command() {
    use clap::ValueEnum;
    let names: Vec<_> = definition()
        .get_subcommands()
        .map(|c| c.get_name().to_owned())
        .collect();
    for shell in clap_complete::Shell::value_variants() {
        let mut out = Vec::new();
        let _ = completions::run_to(&CompletionsArgs { shell: *shell }, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(names.iter().all(|name| out.contains(name)), "{shell}");
    }
    let mut page = Vec::new();
    let _ = man::run_to(&mut page);
    let page = String::from_utf8(page).unwrap().replace("\\-", "-");
    for name in &names {
        assert!(page.contains(&format!("gatehouse {name}")), "{name}");
    }
    assert!(page.contains("--allow-tool"));
}

#[test]
fn check_sums_up_a_good_file_and_refuses_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxy.toml");
    let args = CheckArgs {
        config: config.clone(),
    };
    let check = || {
        let mut err = Vec::new();
        let code = check::run_in(&args, &config::Process, &mut err);
        (code, String::from_utf8(err).unwrap())
    };
    assert_eq!(check().0, ExitCode::FAILURE);
    let good = include_str!("../../tests/config/valid/minimal.toml").replace("uvx", "/bin/sh");
    std::fs::write(&config, &good).unwrap();
    let (code, said) = check();
    assert_eq!(code, ExitCode::SUCCESS, "{said}");
    for part in [
        "is good",
        "127.0.0.1:8443 (http",
        "time (session, 1 warm",
        "all: every backend",
        "alice: all",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    std::fs::write(&config, good.replace("/bin/sh", "/nowhere/sh")).unwrap();
    let (code, said) = check();
    assert_eq!(code, ExitCode::FAILURE);
    assert!(
        said.contains(&format!("{}:14:12", config.display())),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn check_refuses_secrets_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (config, secret) = (
        folder.path().join("proxy.toml"),
        folder.path().join("token"),
    );
    let text = include_str!("../../tests/config/valid/minimal.toml").replace("uvx", "/bin/sh");
    std::fs::write(&config, text + "env = { TOKEN = \"${file:token}\" }\n").unwrap();
    std::fs::write(&secret, "value-of-it\n").unwrap();
    for (mode, refused) in [(0o600, false), (0o640, true), (0o604, true)] {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut err = Vec::new();
        let args = CheckArgs {
            config: config.clone(),
        };
        let code = check::run_in(&args, &config::Process, &mut err);
        let said = String::from_utf8(err).unwrap();
        let expected = match refused {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        };
        assert_eq!(code, expected, "{said}");
        assert_eq!(
            said.contains("other users can read the secret"),
            refused,
            "{mode:o}: {said}"
        );
        assert!(!said.contains("value-of-it"));
    }
}
