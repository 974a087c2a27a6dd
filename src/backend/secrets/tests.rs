use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use super::{Piece, SecretError, Secrets};
use crate::{
    principal::{Method, Principal},
    secret::Secret,
};

fn principal(name: &str) -> Principal {
    Principal::new(Method::Key, name, Vec::new(), None)
}

fn secrets(folder: &Path) -> Secrets {
    let file = Piece::File {
        folder: folder.to_owned(),
        parts: vec![String::new(), "/token".to_owned()],
    };
    let pieces = vec![Piece::Text(Secret::new("Bearer ")), file];
    Secrets {
        values: vec![("TOKEN".to_owned(), pieces)],
        qualified: false,
    }
}

fn put(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn value(secrets: &Secrets, name: &str) -> Result<String, SecretError> {
    let all = secrets.of(&principal(name))?;
    Ok(all[0].1.expose().to_owned())
}

#[test]
fn each_gets_what_is_his_and_without_its_last_line_break() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "alice/token", "of-alice\n", 0o600);
    put(folder.path(), "bob/token", "of-bob\r\n", 0o400);
    let secrets = secrets(folder.path());
    assert_eq!(value(&secrets, "alice").unwrap(), "Bearer of-alice");
    assert_eq!(value(&secrets, "bob").unwrap(), "Bearer of-bob");
    let missing = value(&secrets, "carol").unwrap_err();
    assert!(matches!(missing, SecretError::Read { .. }));
    assert!(missing.to_string().contains("carol/token"), "{missing}");
}

#[test]
fn no_name_leads_to_what_is_not_its_own() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("secrets");
    put(&folder, "alice/token", "of-alice", 0o600);
    put(base.path(), "token", "outside", 0o600);
    put(&folder, "token", "of-the-folder", 0o600);
    let secrets = secrets(&folder);
    let long = "a".repeat(300);
    for name in [
        "..",
        ".",
        "../secrets/alice",
        "alice/",
        "/alice",
        "alice/../alice",
        "./alice",
        "ALICE",
        "Alice",
        "alice\0",
        "",
        "alice%2F",
        "al\u{200b}ice",
        "a\\lice",
        &long,
        "%2e%2e",
        "..%2falice",
        "alice/token",
        "\u{FF41}lice",
    ] {
        assert!(value(&secrets, name).is_err(), "{name:?}");
    }
    // Odd names have files of their own.
    for (name, file) in [
        ("auth0|7", "auth0%7C7/token"),
        ("a/b", "a%2Fb/token"),
        ("..", "%2E./token"),
        ("a%2Fb", "a%252Fb/token"),
        ("é", "%C3%A9/token"),
        ("x@y.z", "x@y.z/token"),
    ] {
        put(&folder, file, name, 0o600);
        assert_eq!(value(&secrets, name).unwrap(), format!("Bearer {name}"));
    }
}

#[test]
fn links_may_not_lead_out_and_others_may_not_read() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("secrets");
    put(&folder, "..data/alice/token", "inside", 0o600);
    put(base.path(), "private", "outside", 0o600);
    symlink("..data/alice", folder.join("alice")).unwrap();
    fs::create_dir(folder.join("bob")).unwrap();
    symlink("../../private", folder.join("bob/token")).unwrap();
    symlink(base.path(), folder.join("carol")).unwrap();
    put(base.path(), "token", "outside", 0o600);
    let secrets = secrets(&folder);
    assert_eq!(value(&secrets, "alice").unwrap(), "Bearer inside");
    for name in ["bob", "carol"] {
        let error = value(&secrets, name).unwrap_err();
        assert!(
            matches!(error, SecretError::Outside { .. }),
            "{name}: {error}"
        );
    }
    for mode in [0o644, 0o640, 0o604, 0o660] {
        put(&folder, "dave/token", "open", mode);
        let error = value(&secrets, "dave").unwrap_err();
        assert!(
            matches!(error, SecretError::Exposed(_)),
            "{mode:o}: {error}"
        );
    }
}

#[test]
fn what_no_variable_can_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = secrets(folder.path());
    for text in ["", "\n", "a\0b"] {
        put(folder.path(), "alice/token", text, 0o600);
        assert!(
            matches!(value(&secrets, "alice"), Err(SecretError::Unfit(_))),
            "{text:?}"
        );
    }
    put(folder.path(), "alice/token", &"x".repeat(70_000), 0o600);
    assert!(matches!(
        value(&secrets, "alice"),
        Err(SecretError::Read { .. })
    ));
    fs::create_dir_all(folder.path().join("bob/token")).unwrap();
    assert!(value(&secrets, "bob").is_err());
}

#[test]
fn a_way_to_authenticate_stands_before_the_name_where_there_are_several() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "anonymous/token", "bare", 0o600);
    put(
        folder.path(),
        "anonymous:anonymous/token",
        "qualified",
        0o600,
    );
    let mut secrets = secrets(folder.path());
    let nobody = Principal::new(Method::Anonymous, "anonymous", Vec::new(), None);
    assert_eq!(secrets.of(&nobody).unwrap()[0].1.expose(), "Bearer bare");
    secrets.qualified = true;
    assert_eq!(
        secrets.of(&nobody).unwrap()[0].1.expose(),
        "Bearer qualified"
    );
    assert_eq!(value(&secrets, "anonymous").unwrap(), "Bearer bare");
    // A key's holder can't call himself so.
    assert!(value(&secrets, "anonymous:anonymous").is_err());
}

#[test]
fn variables_are_found_by_names_that_can_stand_in_them() {
    let pieces = vec![Piece::Variable {
        parts: vec!["P".to_owned(), "H".to_owned()],
    }];
    let secrets = Secrets {
        values: vec![("TOKEN".to_owned(), pieces)],
        qualified: false,
    };
    assert_eq!(
        value(&secrets, "AT").unwrap(),
        std::env::var("PATH").unwrap()
    );
    assert!(matches!(value(&secrets, "at"), Err(SecretError::Unset(_))));
    for name in ["a-b", "a.b", "", "a=b", "é"] {
        assert!(
            matches!(value(&secrets, name), Err(SecretError::VariableName)),
            "{name}"
        );
    }
}

#[test]
fn the_bearer_of_a_token_has_secrets_by_its_subject_and_by_nothing_else() {
    let of = |name: &str| {
        let identity = crate::principal::Identity {
            issuer: "https://one".into(),
            subject: "ann".to_owned(),
            ..crate::principal::Identity::default()
        };
        Principal::with_identity(Method::Jwt, name.to_owned(), identity, Vec::new(), None)
    };
    for name in ["ann", "https://one#ann"] {
        assert_eq!(super::unique_name(&of(name)), Some(name));
    }
    for name in [
        "bob",
        "xann",
        "#ann",
        "ann#ann",
        "https://two#ann",
        "https://one#bob",
    ] {
        assert_eq!(super::unique_name(&of(name)), None, "{name}");
    }
}
