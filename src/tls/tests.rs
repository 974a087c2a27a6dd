use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_rustls::TlsConnector;

use super::*;

fn self_signed(dir: &TempDir, names: &[&str]) -> Config {
    Config {
        source: Source::SelfSigned {
            dir: dir.path().to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        },
        keylog: false,
        clients: None,
    }
}

/// A configuration with files of its own: a copy of a fresh self-signed pair.
fn files_in(dir: &TempDir) -> (PathBuf, PathBuf, Config) {
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    renew(&cert, &key);
    let source = Source::Files {
        cert: cert.clone(),
        key: key.clone(),
    };
    (
        cert,
        key,
        Config {
            source,
            keylog: false,
            clients: None,
        },
    )
}

fn renew(cert: &Path, key: &Path) {
    let other = tempfile::tempdir().unwrap();
    let made = self_signed::ensure(other.path(), &[], SystemTime::now()).unwrap();
    fs::copy(made.0, cert).unwrap();
    fs::copy(made.1, key).unwrap();
}

/// Handshakes as a client that trusts this file only; what both sides got.
async fn connect(
    acceptor: &Acceptor,
    trust: &Path,
    name: &str,
    alpn: &[&str],
) -> (Result<Protocol, HandshakeError>, io::Result<()>) {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(trust).unwrap())
        .unwrap();
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = acceptor.handshake(stream, soon()).await?;
        connection.write_all(b"hello").await.unwrap();
        connection.shutdown().await.unwrap();
        Ok(connection.alpn())
    };
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(client))
            .connect(name, stream)
            .await?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await?;
        assert_eq!(heard, "hello");
        Ok(())
    };
    tokio::join!(served, asked)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_as_its_own_anchor_for_all_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let config = self_signed(
        &dir,
        &["mcp.example.com", "192.0.2.7", "0.0.0.0", "LOCALHOST"],
    );
    let acceptor = Acceptor::load(&config).unwrap();
    let trust = acceptor.certificate_path().unwrap();
    for name in [
        "localhost",
        "127.0.0.1",
        "::1",
        "mcp.example.com",
        "192.0.2.7",
    ] {
        let (served, asked) = connect(&acceptor, &trust, name, &[]).await;
        assert_eq!(served.unwrap(), Protocol::H1);
        asked.unwrap();
    }
    let (served, asked) = connect(&acceptor, &trust, "other.example.com", &[]).await;
    assert!(matches!(served, Err(HandshakeError::Tls(_))), "{served:?}");
    assert!(asked.is_err());
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = Acceptor::load(&self_signed(&dir, &[])).unwrap();
    let trust = acceptor.certificate_path().unwrap();
    for (offer, chosen) in [
        (&["h2", "http/1.1"][..], Protocol::H2),
        (&["http/1.1"], Protocol::H1),
        (&["http/1.1", "h2"], Protocol::H2),
    ] {
        let (served, asked) = connect(&acceptor, &trust, "localhost", offer).await;
        assert_eq!(served.unwrap(), chosen);
        asked.unwrap();
    }
    let (served, _) = connect(&acceptor, &trust, "localhost", &["smtp"]).await;
    assert!(matches!(served, Err(HandshakeError::Tls(_))));
}

#[test]
fn a_self_signed_pair_is_private_and_kept_as_long_as_it_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let print = |names: &[&str]| {
        let acceptor = Acceptor::load(&self_signed(&dir, names)).unwrap();
        acceptor.fingerprint_sha256().unwrap()
    };
    let first = print(&["a.example"]);
    assert_eq!(first.len(), 32 * 3 - 1);
    let (cert, key) = self_signed::paths(dir.path());
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);

    assert_eq!(print(&["a.example"]), first);
    assert_eq!(print(&[]), first);
    let second = print(&["b.example"]);
    assert_ne!(second, first);
    fs::remove_file(&key).unwrap();
    let third = print(&["b.example"]);
    assert_ne!(third, second);
    fs::write(&cert, "damaged").unwrap();
    assert_ne!(print(&["b.example"]), third);

    let day = Duration::from_secs(24 * 60 * 60);
    let names = ["b.example".to_owned()];
    let at = |days| {
        self_signed::ensure(dir.path(), &names, SystemTime::now() + day * days).unwrap();
        fs::read(&cert).unwrap()
    };
    let now = at(0);
    assert_eq!(at(330), now);
    assert_ne!(at(340), now);
}

#[test]
fn the_end_is_read_from_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let (cert, key) = self_signed::ensure(dir.path(), &[], now).unwrap();
    let end = Pair::load(&cert, &key).unwrap().expires.unwrap();
    assert_eq!(end, now + Duration::from_secs(365 * 24 * 60 * 60));
}

#[test]
fn a_pair_that_cannot_be_served_is_refused_with_the_file_to_blame() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key, config) = files_in(&dir);
    Acceptor::load(&config).unwrap();
    assert!(validate(&config).is_empty());
    let (good_cert, good_key) = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
    let pkcs8 = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let encrypted = pkcs8.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let open = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    type Check = fn(&TlsError) -> bool;
    let cases: [(&Path, &[u8], Check); 8] = [
        (&cert, b"nothing", |e| {
            matches!(e, TlsError::NoCertificate { .. })
        }),
        (&cert, &good_key, |e| {
            matches!(e, TlsError::NoCertificate { .. })
        }),
        (&cert, garbage.as_bytes(), |e| {
            matches!(e, TlsError::BadCertificate { .. })
        }),
        (&cert, open.as_bytes(), |e| {
            matches!(e, TlsError::NotPem { .. })
        }),
        (&key, b"nothing", |e| matches!(e, TlsError::NoKey { .. })),
        (&key, &good_cert, |e| matches!(e, TlsError::NoKey { .. })),
        (&key, encrypted.as_bytes(), |e| {
            matches!(e, TlsError::EncryptedKey { .. })
        }),
        (&key, pkcs8.as_bytes(), |e| {
            matches!(e, TlsError::BadKey { .. })
        }),
    ];
    for (path, bytes, check) in cases {
        fs::write(&cert, &good_cert).unwrap();
        fs::write(&key, &good_key).unwrap();
        fs::write(path, bytes).unwrap();
        for error in [
            Acceptor::load(&config).unwrap_err(),
            validate(&config).remove(0),
        ] {
            assert!(check(&error), "{error:?}");
            assert!(
                error.to_string().contains(&*path.to_string_lossy()),
                "{error}"
            );
        }
    }
    fs::remove_file(&cert).unwrap();
    assert!(matches!(
        validate(&config)[..],
        [TlsError::Read { .. }, TlsError::BadKey { .. }]
    ));
    renew(&cert, &dir.path().join("other.pem"));
    fs::write(&key, &good_key).unwrap();
    assert!(matches!(validate(&config)[..], [TlsError::Mismatch { .. }]));
}

#[test]
fn an_expired_certificate_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(400 * 24 * 60 * 60);
    let (cert, key) = self_signed::ensure(dir.path(), &[], long_ago).unwrap();
    let source = Source::Files { cert, key };
    let found = validate(&Config {
        source,
        keylog: false,
        clients: None,
    });
    assert!(matches!(found[..], [TlsError::Expired { .. }]), "{found:?}");
}

#[test]
fn validation_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(validate(&self_signed(&dir, &["a.example", "[::1]"])).is_empty());
    let found = validate(&self_signed(&dir, &["a b"]));
    assert!(matches!(found[..], [TlsError::Name { .. }]));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let gone = dir.path().join("gone");
    let source = Source::SelfSigned {
        dir: gone,
        names: Vec::new(),
    };
    let found = validate(&Config {
        source,
        keylog: false,
        clients: None,
    });
    assert!(matches!(found[..], [TlsError::Read { .. }]));
}

#[tokio::test]
async fn a_changed_pair_is_taken_into_use_and_a_bad_one_is_not_but_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key, config) = files_in(&dir);
    let acceptor = Acceptor::load(&config).unwrap();
    let old = dir.path().join("old.pem");
    fs::copy(&cert, &old).unwrap();
    assert!(matches!(acceptor.reload_if_changed(), Reload::Unchanged));

    renew(&cert, &dir.path().join("elsewhere.pem"));
    let refused = acceptor.reload_if_changed();
    assert!(
        matches!(refused, Reload::Refused(TlsError::Mismatch { .. })),
        "{refused:?}"
    );
    assert!(matches!(acceptor.reload_if_changed(), Reload::Unchanged));
    fs::remove_file(&key).unwrap();
    assert!(matches!(
        acceptor.reload_if_changed(),
        Reload::Refused(TlsError::Read { .. })
    ));
    assert!(matches!(acceptor.reload_if_changed(), Reload::Unchanged));
    connect(&acceptor, &old, "localhost", &[]).await.1.unwrap();

    renew(&cert, &key);
    assert!(matches!(acceptor.reload_if_changed(), Reload::Reloaded));
    connect(&acceptor, &cert, "localhost", &[]).await.1.unwrap();
    assert!(connect(&acceptor, &old, "localhost", &[]).await.1.is_err());
    assert!(matches!(acceptor.reload_if_changed(), Reload::Unchanged));
}

#[tokio::test]
async fn a_deleted_self_signed_pair_is_missed_but_the_old_one_serves_on() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = Acceptor::load(&self_signed(&dir, &[])).unwrap();
    let print = acceptor.fingerprint_sha256();
    let (cert, _) = self_signed::paths(dir.path());
    fs::remove_file(cert).unwrap();
    assert!(matches!(
        acceptor.reload_if_changed(),
        Reload::Refused(TlsError::Read { .. })
    ));
    assert_eq!(acceptor.fingerprint_sha256(), print);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = Acceptor::load(&self_signed(&dir, &[])).unwrap();
    for (said, answered) in [("GET / HTTP/1.1\r\n\r\n", true), ("\x05\x01\x00", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        let (result, _) = tokio::join!(acceptor.handshake(stream, soon()), async {
            let read = client.read_to_end(&mut heard).await;
            client.shutdown().await.ok();
            read
        });
        assert!(
            matches!(result, Err(HandshakeError::Plaintext)),
            "{result:?}"
        );
        let heard = String::from_utf8(heard).unwrap();
        assert_eq!(heard.starts_with("HTTP/1.1 400 "), answered);
        if let Some((head, body)) = heard.split_once("\r\n\r\n") {
            assert!(
                head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
                "{heard}"
            );
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"], "bad_request");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_at_its_deadline_and_with_its_peer() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = Acceptor::load(&self_signed(&dir, &[])).unwrap();
    for said in [&b""[..], &[0x16, 3, 1]] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(said).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let result = acceptor.handshake(stream, soon()).await;
        assert!(matches!(result, Err(HandshakeError::Timeout)), "{result:?}");

        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(said).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        drop(client);
        let result = acceptor.handshake(stream, soon()).await;
        assert!(matches!(result, Err(HandshakeError::Closed)), "{result:?}");
    }
}

#[tokio::test]
async fn without_tls_the_connection_is_ready_at_once() {
    let config = Config {
        source: Source::None,
        keylog: true,
        clients: None,
    };
    let acceptor = Acceptor::load(&config).unwrap();
    assert!(!acceptor.is_tls());
    assert_eq!(acceptor.fingerprint_sha256(), None);
    assert!(matches!(acceptor.reload_if_changed(), Reload::Unchanged));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut connection = acceptor.handshake(stream, soon()).await.unwrap();
    assert_eq!(
        (connection.alpn(), connection.is_tls()),
        (Protocol::H1, false)
    );
    connection.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
}
