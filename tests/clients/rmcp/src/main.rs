//! Drives the rmcp client (Streamable HTTP) by a plan (see `../README.md`) and prints one JSON
//! line of results.
#![allow(
    deprecated,
    reason = "sampling, roots and logging are deprecated in the newest revision only"
)]

mod heard;
mod plan;

use std::{collections::HashMap, fs};

use anyhow::{Context, Result, bail};
use rmcp::{
    model::{ClientConfig, ProtocolVersion},
    service::{ClientLifecycleMode, ClientServiceExt as _},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};

use crate::heard::Heard;

fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let mut report = json!({
        "driver": "rmcp", "transport": "http", "ok": false, "steps": [], "skipped": [],
    });
    let outcome = tokio::runtime::Runtime::new()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(drive(&mut report)));
    match outcome {
        Ok(()) => report["ok"] = json!(true),
        Err(error) => report["error"] = json!(format!("{error:#}")),
    }
    println!("{report}");
    std::process::exit(i32::from(report["ok"] != true));
}

async fn drive(report: &mut Value) -> Result<()> {
    let args = arguments()?;
    let get = |name: &str| args.get(name).with_context(|| format!("{name} is missing"));
    if get("--transport")? != "http" {
        bail!("rmcp has no HTTP+SSE client");
    }
    let text = get("--plan")?;
    let plan: Value = if text.starts_with('{') {
        serde_json::from_str(text)?
    } else {
        serde_json::from_str(&fs::read_to_string(text)?)?
    };
    let heard = Heard::new(&plan);
    let lifecycle = match args.get("--lifecycle").map(String::as_str) {
        Some("auto") => ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: None,
        },
        None => ClientLifecycleMode::Initialize,
        Some(other) => bail!("no such lifecycle: {other}"),
    };
    let transport = transport(get("--url")?, get("--key")?, args.get("--ca"))?;
    let client = heard
        .clone()
        .serve_with_lifecycle(transport, lifecycle)
        .await?;
    let outcome = plan::run(&client, &plan, &heard, report).await;
    report["heard"] = heard.counts();
    client.cancel().await?;
    outcome
}

fn arguments() -> Result<HashMap<String, String>> {
    let mut given = std::env::args().skip(1);
    let mut args = HashMap::new();
    while let Some(name) = given.next() {
        let value = given
            .next()
            .with_context(|| format!("{name} has no value"))?;
        args.insert(name, value);
    }
    Ok(args)
}

fn transport(
    url: &str,
    key: &str,
    ca: Option<&String>,
) -> Result<StreamableHttpClientTransport<reqwest::Client>> {
    let mut http = reqwest::Client::builder();
    if let Some(path) = ca {
        let pem = fs::read(path).with_context(|| format!("cannot read {path}"))?;
        http = http.tls_certs_only([reqwest::Certificate::from_pem(&pem)?]);
    }
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(key);
    Ok(StreamableHttpClientTransport::with_client(
        http.build()?,
        config,
    ))
}

/// Who this client says it is, and what it can be asked.
fn introduction() -> Result<ClientConfig> {
    Ok(serde_json::from_value(json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"sampling": {}, "elicitation": {}, "roots": {"listChanged": true}},
        "clientInfo": {"name": "gatehouse-test-rmcp", "version": "1.0.0"},
    }))?)
}
