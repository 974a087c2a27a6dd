//! A certificate authority for clients, made by openssl as an operator would make one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// An authority with its files.
pub(crate) struct Authority {
    folder: TempDir,
    revoked: std::cell::RefCell<Vec<String>>,
}

impl Authority {
    /// A new authority, which has revoked nothing.
    pub(crate) fn new() -> Self {
        let authority = Self {
            folder: tempfile::tempdir().expect("a folder"),
            revoked: std::cell::RefCell::default(),
        };
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -subj /CN=Clients -keyout ca.key -out ca.pem",
        );
        let config = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ndefault_md = sha256\n\
                      default_crl_days = 30\ncrlnumber = crlnumber\ncrl_extensions = ext\n\
                      [ext]\nauthorityKeyIdentifier = keyid:always\n";
        fs::write(authority.path("crlnumber"), "01\n").expect("a file is written");
        fs::write(authority.path("ca.cnf"), config).expect("a file is written");
        authority.list();
        authority
    }

    /// One of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a certificate for `days`, with a subject and alternative names such as
    /// `DNS:a,URI:b`; gives back certificate and key.
    pub(crate) fn issue(&self, name: &str, subject: &str, names: &str) -> (PathBuf, PathBuf) {
        self.issue_for(name, subject, names, "-days 30")
    }

    /// As [`Authority::issue`], for another time.
    pub(crate) fn issue_for(
        &self,
        name: &str,
        subject: &str,
        names: &str,
        time: &str,
    ) -> (PathBuf, PathBuf) {
        let mut extensions = "extendedKeyUsage=clientAuth,serverAuth\n".to_owned();
        if !names.is_empty() {
            extensions.push_str(&format!("subjectAltName={names}\n"));
        }
        fs::write(self.path("ext.cnf"), extensions).expect("a file is written");
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj {subject} \
             -keyout {name}.key -out {name}.csr"
        ));
        let serial: u32 = name
            .bytes()
            .fold(7, |sum, byte| sum * 31 % 65_521 + u32::from(byte));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial {serial} {time} \
             -extfile ext.cnf -out {name}.pem"
        ));
        (
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}.key")),
        )
    }

    /// Puts a certificate on the list.
    pub(crate) fn revoke(&self, name: &str) {
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-serial", "-in"])
            .arg(self.path(&format!("{name}.pem")))
            .output()
            .expect("openssl runs");
        let serial = String::from_utf8_lossy(&output.stdout);
        let serial = serial.trim().trim_start_matches("serial=").to_owned();
        self.revoked.borrow_mut().push(serial);
        self.list();
    }

    fn list(&self) {
        let lines = self
            .revoked
            .borrow()
            .iter()
            .map(|serial| format!("R\t491231235959Z\t250101000000Z\t{serial}\tunknown\t/CN=x\n"))
            .collect::<String>();
        fs::write(self.path("index.txt"), lines).expect("a file is written");
        self.openssl("ca -gencrl -config ca.cnf -cert ca.pem -keyfile ca.key -out new.crl");
        // At once: a half-written list is no list.
        fs::rename(self.path("new.crl"), self.path("ca.crl")).expect("a file is renamed");
    }

    fn openssl(&self, arguments: &str) {
        run(self.folder.path(), arguments);
    }
}

fn run(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {said}");
}
