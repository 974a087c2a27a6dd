use super::*;
use crate::config::{Config, Environment, Nowhere, Source, Strictness};

/// Nothing exists here but every variable.
struct Set;

impl Environment for Set {
    fn var(&self, name: &str) -> Option<std::ffi::OsString> {
        Some(format!("value of {name}").into())
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Nowhere.read(path)
    }
    fn exposed(&self, _path: &Path) -> bool {
        false
    }
    fn executable(&self, _path: &Path) -> bool {
        true
    }
    fn folder(&self, _path: &Path) -> bool {
        true
    }
    fn now(&self) -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH
    }
}

/// What was converted: the file, the remarks, and the file as the gateway understands it.
fn import(json: &str) -> (String, String, Config) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = convert(json, &mut out, &mut err);
    let (out, err) = (
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    );
    assert_eq!(code, ExitCode::SUCCESS, "{err}");
    let source = Source {
        name: "proxy.toml",
        text: &out,
        base: Path::new("/etc"),
    };
    let config =
        Config::parse(&source, Strictness::Check, &Set).unwrap_or_else(|p| panic!("{p}\n{out}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    (out, err, config)
}

fn refused(json: &str) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(convert(json, &mut out, &mut err), ExitCode::FAILURE);
    assert!(out.is_empty());
    String::from_utf8(err).unwrap()
}

fn argv(config: &Config, index: usize) -> Vec<&str> {
    config.backends[index]
        .config
        .child
        .command
        .iter()
        .map(String::as_str)
        .collect()
}

fn env<'a>(config: &'a Config, index: usize, name: &str) -> Option<&'a str> {
    let env = &config.backends[index].config.child.env;
    env.iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.expose())
}

#[test]
fn a_claude_desktop_file_becomes_a_good_configuration() {
    let (out, err, config) = import(
        r#"{"mcpServers": {
            "filesystem": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv/data"]},
            "github": {"command": "docker",
                "args": ["run", "-i", "--rm", "-e", "GITHUB_PERSONAL_ACCESS_TOKEN", "ghcr.io/github/github-mcp-server"],
                "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": "ghp_0123456789abcdef", "LOG_LEVEL": "info", "N": 5, "B": true}}
        }}"#,
    );
    assert_eq!(
        argv(&config, 0),
        [
            "npx",
            "-y",
            "@modelcontextprotocol/server-filesystem",
            "/srv/data"
        ]
    );
    assert_eq!(argv(&config, 1)[6], "ghcr.io/github/github-mcp-server");
    let token = env(&config, 1, "GITHUB_PERSONAL_ACCESS_TOKEN");
    assert_eq!(token, Some("value of GITHUB_PERSONAL_ACCESS_TOKEN"));
    assert_eq!(env(&config, 1, "LOG_LEVEL"), Some("info"));
    assert_eq!(env(&config, 1, "N"), Some("5"));
    assert_eq!(env(&config, 1, "B"), Some("true"));
    assert!(err.contains("GITHUB_PERSONAL_ACCESS_TOKEN"));
    assert!(!out.contains("ghp_") && !err.contains("ghp_"));
}

#[test]
fn the_new_key_is_told_once_and_stands_in_the_file_as_a_digest() {
    let (out, err, config) = import(r#"{"mcpServers": {"a": {"command": "a"}}}"#);
    let key = err
        .split_whitespace()
        .find(|word| word.starts_with("gh_"))
        .unwrap();
    assert!(!out.contains(key));
    let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(key).into();
    assert_eq!(config.auth.keys[0].sha256, digest);
    assert_eq!(config.auth.keys[0].roles, ["admin"]);
    assert!(config.policy.roles["admin"].backends.contains_key("*"));
}

#[test]
fn a_vs_code_file_may_have_comments_inputs_and_its_own_variables() {
    let (_, err, config) = import(
        r#"// servers
        {"inputs": [{"type": "promptString", "id": "perplexity-key", "password": true}],
         "servers": {
            "p": {"type": "stdio", "command": "npx", "args": ["x", "${workspaceFolder}/a",],
                  "env": {"API": "${input:perplexity-key}", "E": "${env:FOO}", "D": "cost$5$$"}, "envFile": ".env"},
            "remote": {"type": "http", "url": "https://x.example"},
        }}"#,
    );
    assert_eq!(config.backends.len(), 1);
    assert_eq!(env(&config, 0, "API"), Some("value of PERPLEXITY_KEY"));
    assert_eq!(env(&config, 0, "E"), Some("value of FOO"));
    assert_eq!(env(&config, 0, "D"), Some("cost$5$$"));
    assert_eq!(argv(&config, 0)[2], "value of WORKSPACE_FOLDER/a");
    for named in [
        "PERPLEXITY_KEY",
        "FOO",
        "WORKSPACE_FOLDER",
        "remote",
        "http",
        "envFile",
        "workspace",
    ] {
        assert!(err.contains(named), "{named}: {err}");
    }
}

#[test]
fn secrets_in_arguments_become_variables() {
    let (out, err, config) = import(
        r#"{"mcpServers": {"dB": {"command": "npx", "args": [
            "pg", "postgresql://user:hunter2@host/db", "--token=abc123", "--api-key", "k-456", "-y",
            "https://x.example/mcp?apiKey=zzz789&mode=a", "--header", "Authorization: Bearer qqq111",
            "-e", "MY_SECRET=www222", "sk-0123456789abcdef", "plain", "--verbose", "next",
            "--access-token-file", "/run/t", "mcp-server-2024-11-05-of-filesystem", "/srv/data1/a2b3/c4d5e6f7"
        ]}}}"#,
    );
    for secret in [
        "hunter2",
        "abc123",
        "k-456",
        "zzz789",
        "qqq111",
        "www222",
        "sk-012345",
    ] {
        assert!(!out.contains(secret), "{secret}: {out}");
        assert!(!err.contains(secret), "{secret}: {err}");
    }
    let argv = argv(&config, 0);
    assert_eq!(argv[2], "postgresql://user:value of DB_PASSWORD@host/db");
    assert_eq!(argv[3], "--token=value of DB_TOKEN");
    assert_eq!(argv[5], "value of DB_API_KEY");
    assert!(
        argv[7].starts_with("https://x.example/mcp?apiKey=value of ")
            && argv[7].ends_with("&mode=a")
    );
    assert_eq!(argv[9], "Authorization: Bearer value of DB_AUTHORIZATION");
    assert_eq!(argv[11], "MY_SECRET=value of DB_MY_SECRET");
    for plain in [
        "plain",
        "next",
        "/run/t",
        "mcp-server-2024-11-05-of-filesystem",
        "/srv/data1/a2b3/c4d5e6f7",
    ] {
        assert!(argv.contains(&plain), "{plain}: {argv:?}");
    }
}

#[test]
fn ordinary_settings_stay_as_they_are() {
    let (out, _, config) = import(
        r#"{"mcpServers": {"a": {"command": "npx", "args": ["@scope/pkg@1.2.3", "--tz=Europe/Berlin", "--port", "8080"],
            "env": {"MODEL": "claude-3-5-sonnet-20241022", "SMALL": "gpt-4o-mini-2024-07-18", "MAX_TOKENS": "4096",
                "NODE_OPTIONS": "--max-old-space-size=4096", "URL": "https://api.example.com/v1?page=2",
                "BUCKET": "my-bucket-prod-eu-west-1", "USE_AUTH": "true", "HOME_DIR": "/home/me/projects/2024"}}}}"#,
    );
    assert!(!out.contains("${"), "{out}");
    assert_eq!(config.backends[0].config.child.env.len(), 8);
}

#[test]
fn secrets_are_known_by_their_shape_too() {
    for value in [
        "xoxb-123456789012-abcdefghij",
        "3f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "postgres://u:pw@db/x",
        "https://x.example/hook?token=abc",
        "Bearer 3f9a8b7c6d5e4f3a2b1c0d9e",
        "-----BEGIN PRIVATE KEY-----",
    ] {
        let json =
            serde_json::json!({"mcpServers": {"a": {"command": "a", "env": {"SETTING": value}}}});
        let (out, err, config) = import(&json.to_string());
        assert_eq!(
            env(&config, 0, "SETTING"),
            Some("value of SETTING"),
            "{value}"
        );
        assert!(!out.contains(value) && !err.contains(value));
    }
}

#[test]
fn one_variable_stands_for_one_value() {
    let (_, err, config) = import(
        r#"{"mcpServers": {
            "a": {"command": "a", "env": {"TOKEN": "one-value"}},
            "b": {"command": "b", "env": {"TOKEN": "another"}},
            "c": {"command": "c", "env": {"TOKEN": "one-value"}},
            "d": {"command": "d", "env": {"X": "${B_TOKEN}"}}
        }}"#,
    );
    assert_eq!(env(&config, 0, "TOKEN"), Some("value of TOKEN"));
    assert_eq!(env(&config, 1, "TOKEN"), Some("value of B_TOKEN_2"));
    assert_eq!(env(&config, 2, "TOKEN"), Some("value of TOKEN"));
    assert_eq!(err.matches("env.TOKEN").count(), 2, "{err}");
}

#[test]
fn names_become_fit_for_a_url_and_stay_apart() {
    let (_, err, config) = import(
        r#"{"mcpServers": {"my server": {"command": "a"}, "my/server": {"command": "b"},
            "healthz": {"command": "c"}, "日本": {"command": "d"}, "ok_1": {"command": "e"}}}"#,
    );
    let names: Vec<_> = config
        .backends
        .iter()
        .map(|b| b.config.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["my-server", "my-server-2", "healthz-2", "server", "ok_1"]
    );
    assert!(err.contains("`my/server` is named `my-server-2`"), "{err}");
}

#[test]
fn disabled_servers_are_kept_as_comments_with_their_secrets_removed() {
    let (out, err, config) = import(
        r#"{"mcpServers": {"on": {"command": "a", "enabled": true},
            "off": {"command": "b", "disabled": true, "env": {"PASSWORD": "hunter2"}},
            "off2": {"command": "c", "enabled": false}}}"#,
    );
    assert_eq!(config.backends.len(), 1);
    assert!(out.contains("# [backends.off]") && out.contains("# [backends.off2]"));
    assert!(!out.contains("hunter2"));
    assert!(err.contains("off: disabled"));
}

#[test]
fn windows_wrappers_and_whole_lines_are_taken_apart() {
    let (_, _, config) = import(
        r#"{"mcpServers": {
            "a": {"command": "cmd", "args": ["/c", "npx", "-y", "pkg"]},
            "b": {"command": "C:\\Windows\\System32\\CMD.EXE", "args": ["/C", "npx -y pkg"]},
            "c": {"command": "uvx mcp-server-git"},
            "d": {"command": "npx.cmd", "args": ["-y", "pkg"]}
        }}"#,
    );
    for index in [0, 1, 3] {
        assert_eq!(argv(&config, index), ["npx", "-y", "pkg"]);
    }
    assert_eq!(argv(&config, 2), ["uvx", "mcp-server-git"]);
}

#[test]
fn odd_strings_survive_the_way_through_toml() {
    let (_, _, config) = import(
        r#"{"mcpServers": {"a": {"command": "a", "cwd": "/tmp/${x y}", "args":
            ["\"q\" \\ \u0001\u007f\n\té😀", "$", "${", "a'b"], "env": {"A-b.c": "x#", "EMPTY": ""}}}}"#,
    );
    let argv = argv(&config, 0);
    assert_eq!(argv[1], "\"q\" \\ \u{1}\u{7f}\n\té😀");
    assert_eq!(&argv[2..], ["$", "${", "a'b"]);
    assert_eq!(
        config.backends[0].config.child.cwd.as_deref(),
        Some(Path::new("/tmp/${x y}"))
    );
    assert_eq!(env(&config, 0, "A-b.c"), Some("x#"));
    assert_eq!(env(&config, 0, "EMPTY"), Some(""));
}

#[test]
fn what_is_no_such_file_is_refused() {
    assert!(refused("{").contains("not JSON"));
    assert!(refused("").contains("mcpServers"));
    assert!(refused("[]").contains("mcpServers"));
    assert!(refused(r#"{"mcpServers": {}}"#).contains("no server"));
    let remote =
        refused(r#"{"mcpServers": {"r": {"url": "https://x"}, "n": {"args": ["x"]}, "m": 5}}"#);
    assert!(remote.contains("r: a remote server") && remote.contains("n: has no `command`"));
    assert!(refused(&"[".repeat(100_000)).contains("nested"));
}

#[test]
fn what_is_said_cannot_steer_a_terminal() {
    let (_, err, _) = import(r#"{"mcpServers": {"a\u001b[2Jb": {"command": "a", "x\u001b": 1}}}"#);
    assert!(!err.contains('\u{1b}'));
}

#[test]
fn of_two_servers_with_one_name_it_is_said_which_counts() {
    let (_, err, config) = import(
        r#"{"mcpServers": {"a": {"command": "first"}, "b": {"command": "b"}, "\u0061": {"command": "last"}}}"#,
    );
    assert_eq!(config.backends.len(), 2);
    assert!(
        config
            .backends
            .iter()
            .any(|entry| entry.config.child.command == ["last"])
    );
    assert!(
        err.contains("`a` stands in the file more than once"),
        "{err}"
    );
    assert!(!err.contains("`b` stands"), "{err}");
}

#[test]
fn a_short_flag_for_a_password_is_one_unless_it_says_something_else() {
    let (out, err, config) = import(
        r#"{"mcpServers": {
            "db": {"command": "mysql-mcp", "args": ["-p", "hunter3", "--token=abc", "--api-key", "xyz"]},
            "port": {"command": "serve", "args": ["-p", "3306"]},
            "run": {"command": "npx", "args": ["-p", "tool", "tool"]}}}"#,
    );
    for secret in ["hunter3", "abc", "xyz"] {
        assert!(
            !out.contains(secret) && !err.contains(secret),
            "{secret}: {out}"
        );
    }
    assert!(
        err.contains("DB_P ") && err.contains("argument after -p"),
        "{err}"
    );
    assert_eq!(argv(&config, 0)[2], "value of DB_P");
    assert_eq!(argv(&config, 1)[2], "3306");
    assert_eq!(argv(&config, 2)[2], "tool");
}
