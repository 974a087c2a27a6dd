use super::{Record, Runner, Spec, Unclear, main_program};

fn read(command: &str) -> Option<Result<Spec, Unclear>> {
    let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
    Spec::of(&words)
}

fn spec(command: &str) -> Spec {
    read(command)
        .unwrap_or_else(|| panic!("{command} runs nothing of others"))
        .unwrap_or_else(|unclear| panic!("{command}: {unclear}"))
}

/// Packages, program and arguments, as one line.
fn shown(command: &str) -> String {
    let spec = spec(command);
    format!(
        "{} | {} | {}",
        spec.packages.join(" "),
        spec.program.as_deref().unwrap_or("?"),
        spec.arguments.join(" ")
    )
}

#[test]
fn npx_takes_options_up_to_the_package_and_the_rest_is_the_programs() {
    for (command, expected) in [
        ("npx -y @a/b@1 /srv -p x", "@a/b@1 | ? | /srv -p x"),
        ("/usr/bin/npx b", "b | ? | "),
        ("npx --yes --quiet -- b -- c", "b | ? | -- c"),
        ("npx b -- c", "b | ? | -- c"),
        ("npx b@~1.2 c", "b@~1.2 | ? | c"),
        ("npx -p a --package=@z/y@^2 run -q", "a @z/y@^2 | run | -q"),
        ("npm exec -y b", "b | ? | "),
        ("npm x --package b -- run -y", "b | run | -y"),
    ] {
        assert_eq!(shown(command), expected, "{command}");
        assert_eq!(spec(command).runner, Runner::Npm);
    }
    assert_eq!(
        spec("npx --registry https://r.example/ --@a:registry=https://s.example/ b").options,
        [
            "--registry=https://r.example/",
            "--@a:registry=https://s.example/"
        ]
    );
    assert_eq!(spec("npx -y @a/b@1").name, "@a/b");
}

#[test]
fn uvx_takes_the_version_from_its_program_and_more_packages_from_with() {
    for (command, expected) in [
        (
            "uvx mcp-server-git --repository /x",
            "mcp-server-git | mcp-server-git | --repository /x",
        ),
        ("uvx a@1.2 b", "a==1.2 | a | b"),
        ("uvx a@latest", "a | a | "),
        ("uvx a[x,y]==1", "a[x,y]==1 | a | "),
        (
            "uvx --from a>=1,<2 run --from c",
            "a>=1,<2 | run | --from c",
        ),
        (
            "uvx --from=a --with b,c[d,e]>1,<3 -w f run",
            "a b c[d,e]>1,<3 f | run | ",
        ),
        ("uv tool run -q a", "a | a | "),
        ("uvx -- a", "a | a | "),
    ] {
        assert_eq!(shown(command), expected, "{command}");
        assert_eq!(spec(command).runner, Runner::Uv);
    }
    let with_options = spec("uvx -p3.12 -i https://i.example/ --no-index a");
    assert_eq!(with_options.python.as_deref(), Some("3.12"));
    assert_eq!(
        with_options.options,
        ["--index-url=https://i.example/", "--no-index"]
    );
}

#[test]
fn what_cant_be_told_is_refused_and_what_is_no_runner_is_none() {
    for command in [
        "npx",
        "npx -y",
        "npx -c ls",
        "npx --call=ls",
        "npx --userconfig x b",
        "npx --no b",
        "npx -p",
        "npx -p b",
        "npx -p b ../run",
        "npx ./b",
        "npx ../b",
        "npx a/b",
        "npx github:a/b",
        "npx https://a.example/b.tgz",
        "npx b@npm:c@1",
        "npx b@file:../c",
        "npx -- --registry=x",
        "npm exec b --flag",
        "npm exec -p b run",
        "npm x -p b",
        "npx b@.",
        "npx b@..",
        "npx b.tgz",
        "npx b.TAR.gz",
        "npx b@1.tar",
        "npx -p b@x.tgz b",
        "uvx",
        "uvx -q",
        "uvx --from a",
        "uvx --from",
        "uvx --with-requirements r.txt a",
        "uvx --with-editable . a",
        "uvx --from git+https://a.example/b run",
        "uvx --from ./a run",
        "uvx --from a@https://a.example/a.whl run",
        "uvx a.whl",
        "uvx --with=../a b",
        "uvx --from a ../run",
        "uvx a@main",
    ] {
        assert!(matches!(read(command), Some(Err(_))), "{command}");
    }
    for command in [
        "node b",
        "npm install b",
        "uv run b",
        "uv tool install b",
        "bunx b",
    ] {
        assert!(read(command).is_none(), "{command}");
    }
}

#[test]
fn an_installation_depends_on_what_is_installed_and_not_on_arguments() {
    let one = spec("npx -y a@1 /srv").digest();
    assert_eq!(one, spec("npx a@1 /home --x").digest());
    for other in [
        "npx a@2 /srv",
        "npx -p a@1 a /srv",
        "npx --registry=x a@1",
        "uvx a@1",
        "npx -p a@1 -p b a",
    ] {
        assert_ne!(one, spec(other).digest(), "{other}");
    }
    assert_ne!(
        spec("uvx --python 3.11 a").digest(),
        spec("uvx --python 3.12 a").digest()
    );
}

#[test]
fn npx_runs_the_only_program_or_the_one_that_is_called_like_its_package() {
    let main = |manifest: &str| main_program("@a/b", manifest);
    assert_eq!(main(r#"{"bin":"x.js"}"#).unwrap(), "b");
    assert_eq!(main(r#"{"bin":{"other":"x.js"}}"#).unwrap(), "other");
    assert_eq!(main(r#"{"bin":{"c":"x.js","d":"x.js"}}"#).unwrap(), "c");
    assert_eq!(main(r#"{"bin":{"c":"x.js","b":"y.js"}}"#).unwrap(), "b");
    let several = main(r#"{"bin":{"c":"x.js","d":"y.js"}}"#).unwrap_err();
    assert_eq!(several, ["c", "d"]);
    for none in ["{}", "[]", "", r#"{"bin":{"../c":"x.js"}}"#, r#"{"bin":3}"#] {
        assert!(main(none).is_err(), "{none}");
    }
}

#[test]
fn a_record_names_nothing_outside_of_its_folder() {
    let record = Record::new("s".into(), "0a".into(), "node_modules/.bin/run".into());
    assert_eq!(
        Record::parse(record.text().as_bytes()),
        Some(record.clone())
    );
    for (folder, program) in [
        ("..", "bin/run"),
        ("a/b", "bin/run"),
        ("", "bin/run"),
        ("a", "../run"),
        ("a", "/bin/run"),
        ("a", "bin/../../run"),
        ("a", ""),
    ] {
        let bad = Record::new("s".into(), folder.into(), program.into());
        assert_eq!(
            Record::parse(bad.text().as_bytes()),
            None,
            "{folder} {program}"
        );
    }
    assert_eq!(Record::parse(b"{}"), None);
    assert_eq!(Record::parse(b""), None);
    let mut newer = record;
    newer.version += 1;
    assert_eq!(Record::parse(newer.text().as_bytes()), None);
}
