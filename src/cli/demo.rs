//! `gatehouse demo`: everything at once, with nothing installed or configured.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::ExitCode,
};

use crate::{
    auth::key,
    cli::{
        life,
        wrap::{self, Front},
    },
    config::BackendEntry,
};

/// Runs the built-in example server behind TLS and a fresh key.
#[must_use]
pub fn run() -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program.to_string_lossy().into_owned(),
        Err(error) => return wrap::failed(&format!("can't find the program itself: {error}")),
    };
    let key = match key::generate() {
        Ok(key) => key,
        Err(error) => return wrap::failed(&format!("no randomness for a key: {error}")),
    };
    let mut backend = BackendEntry::new(
        "example".to_owned(),
        vec![program, "example-server".to_owned()],
    );
    backend.config.warm = 1;
    let front = Front {
        addresses: vec![address()],
        tls: None,
        key: key.clone(),
        key_file: None,
    };
    wrap::start(backend, front)
}

/// The usual address, or any free port beside it.
fn address() -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 8443));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => {
            life::say("gatehouse: port 8443 is in use; taking a free one\n");
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
        }
    }
}
