//! What a person is shown who started a gateway without a file: lines that work when pasted.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use crate::secret::Secret;

/// What is to be shown.
pub(super) struct Welcome<'a> {
    /// The backend's name.
    pub(super) backend: &'a str,
    /// Where the gateway listens.
    pub(super) addresses: &'a [SocketAddr],
    /// The certificate that clients have to trust, where it is our own.
    pub(super) certificate: Option<&'a Path>,
    /// Its SHA-256.
    pub(super) fingerprint: Option<&'a str>,
    /// The key, where it was made now.
    pub(super) key: Option<&'a Secret>,
    /// The file that it is the first line of, otherwise.
    pub(super) key_file: Option<&'a Path>,
    /// The connection is encrypted.
    pub(super) tls: bool,
}

impl Welcome<'_> {
    /// The text for a terminal.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let key = self.key.map_or("$GATEHOUSE_KEY", Secret::expose);
        writeln!(out, "\nGatehouse serves `{}`.\n", self.backend)?;
        for address in self.addresses {
            let base = self.base(*address);
            writeln!(out, "  Streamable HTTP  {base}/mcp")?;
            writeln!(out, "  HTTP+SSE         {base}/sse")?;
        }
        if let Some(key) = self.key {
            writeln!(out, "  API key          {}", key.expose())?;
        }
        if let (Some(path), Some(fingerprint)) = (self.certificate, self.fingerprint) {
            writeln!(out, "  certificate      {}", path.display())?;
            writeln!(out, "                   SHA-256 {fingerprint}")?;
        }
        let Some(first) = self.addresses.first() else {
            return Ok(());
        };
        let url = format!("{}/mcp", self.base(*first));
        writeln!(out, "\nTry it:\n")?;
        if let Some(file) = self.key_file {
            let file = quoted(&file.display().to_string());
            writeln!(out, "  export GATEHOUSE_KEY=\"$(head -n 1 {file})\"\n")?;
        }
        writeln!(out, "{}\n", self.curl(&url, key))?;
        writeln!(
            out,
            "For a client's configuration file (Cursor, VS Code, Claude Code, …):\n"
        )?;
        writeln!(out, "{}\n", self.client_json(&url, key))?;
        if let Some(file) = self.key_file {
            writeln!(
                out,
                "Put the first line of {} in the place of $GATEHOUSE_KEY: most clients expand nothing.\n",
                file.display()
            )?;
        }
        if let Some(path) = self.certificate {
            let path = quoted(&path.display().to_string());
            writeln!(
                out,
                "Clients that run on Node need: export NODE_EXTRA_CA_CERTS={path}\n"
            )?;
        }
        writeln!(
            out,
            "With the Inspector:\n\n{}\n",
            self.inspector(&url, key)
        )?;
        writeln!(out, "Ctrl-C stops it.\n")
    }

    fn base(&self, address: SocketAddr) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        // Nobody can connect to "any address"; from here it is reached by loopback.
        let host = match address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".to_owned(),
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => "[::1]".to_owned(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        format!("{scheme}://{host}:{}/{}", address.port(), self.backend)
    }

    fn curl(&self, url: &str, key: &str) -> String {
        let trust = self.certificate.map_or(String::new(), |path| {
            format!(" --cacert {}", quoted(&path.display().to_string()))
        });
        format!(
            "  curl{trust} {url} \\\n    -H {auth} \\\n    -H 'Content-Type: application/json' \\\n    \
             -H 'Accept: application/json, text/event-stream' \\\n    -d '{INITIALIZE}'",
            auth = header(key),
        )
    }

    fn client_json(&self, url: &str, key: &str) -> String {
        let block = serde_json::json!({
            "mcpServers": {
                self.backend: {
                    "type": "http",
                    "url": url,
                    "headers": { "Authorization": format!("Bearer {key}") },
                }
            }
        });
        format!("{block:#}")
    }

    fn inspector(&self, url: &str, key: &str) -> String {
        let trust = self.certificate.map_or(String::new(), |path| {
            format!(
                "NODE_EXTRA_CA_CERTS={} ",
                quoted(&path.display().to_string())
            )
        });
        format!(
            "  {trust}npx -y @modelcontextprotocol/inspector@2 --cli {url} \\\n    --transport http \
             --header {auth} --method tools/list",
            auth = header(key),
        )
    }
}

/// A header for a shell; a key that stands in a variable has to be expanded there.
fn header(key: &str) -> String {
    if key.starts_with('$') {
        format!("\"Authorization: Bearer {key}\"")
    } else {
        quoted(&format!("Authorization: Bearer {key}"))
    }
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A first message that every server understands.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"0"}}}"#;
