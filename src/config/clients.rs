//! `client_ca`, `client_crl` and `client_auth` of `[server.tls]`.
//!
//! Owns the rule that client certificates are asked for only when it is known whom to trust.

use super::{expand::Text, problem::Problem, table::Table};
use crate::tls;

/// Reads the keys; `None` when no client is asked for a certificate.
pub(super) fn read(table: &mut Table<'_>) -> Option<tls::Clients> {
    let ca = table.string("client_ca");
    let crl = table.string("client_crl");
    let mode = table.string("client_auth");
    let required = match mode.as_ref().map(|text| text.value.as_str()) {
        Some("required") => true,
        Some("optional") => false,
        None | Some("off") => {
            for key in ["client_ca", "client_crl"] {
                if table.has(key) {
                    unused(table, key);
                }
            }
            return None;
        }
        Some(_) => {
            let span = table.place("client_auth");
            table.cx.report(
                Problem::error("`server.tls.client_auth` is none of its values")
                    .at(&mode.map_or(span, |text| text.span))
                    .help("write \"off\", \"optional\" or \"required\""),
            );
            return None;
        }
    };
    let Some(ca) = ca else {
        if !table.has("client_ca") {
            let help =
                "write client_ca = \"FILE\": the authorities that client certificates are from";
            table.missing("client_ca", help);
        }
        return None;
    };
    let texts = [Some(&ca), crl.as_ref()].into_iter().flatten();
    let unreadable = texts.filter(|text| !readable(table, text)).count();
    let path = |text: &Text| table.cx.path(&text.value);
    let clients = tls::Clients {
        ca: path(&ca),
        crl: crl.as_ref().map(path),
        required,
    };
    if unreadable == 0 {
        usable(table, &clients, (&ca, crl.as_ref()));
    }
    Some(clients)
}

/// Says which of the files is of no use.
fn usable(table: &Table<'_>, clients: &tls::Clients, (ca, crl): (&Text, Option<&Text>)) {
    let world = table.cx.world;
    let alone = tls::Clients {
        crl: None,
        ..clients.clone()
    };
    let authorities = world.unfit_clients(&alone);
    let (place, help) = match (&authorities, crl) {
        (None, Some(crl)) => (crl, "name a PEM file with the lists of these authorities"),
        _ => (ca, "name a PEM file with the authorities' certificates"),
    };
    let flaw = authorities.or_else(|| world.unfit_clients(clients));
    if let Some(error) = flaw {
        let problem = Problem::error(error.to_string());
        table.cx.report(problem.at(&place.span).help(help));
    }
}

fn readable(table: &Table<'_>, text: &Text) -> bool {
    let cx = table.cx;
    let path = cx.path(&text.value);
    let read = cx.world.read(&path);
    if let Err(error) = &read {
        let shown = cx.path(text.shown());
        cx.report(
            Problem::error(format!("can't read `{}`: {error}", shown.display()))
                .at(&text.span)
                .help("the path is relative to this file"),
        );
    }
    read.is_ok()
}

fn unused(table: &Table<'_>, key: &str) {
    let name = table.name(key);
    table.cx.report(
        Problem::warning(format!(
            "`{name}` is not used: no client is asked for a certificate"
        ))
        .at(&table.place(key))
        .help("write client_auth = \"optional\" or \"required\""),
    );
}
