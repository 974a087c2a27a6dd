//! `[backends.NAME.limits]`: what one principal may ask of one backend.
//!
//! Owns how rates for tools are written.

use toml::de::DeValue;

use super::{problem::Problem, table::Table, value};
use crate::{
    glob::Globs,
    limit::{Rate, backend::Config},
};

/// Reads the table of a backend; what is wrong with it is reported.
pub(super) fn read(backend: &mut Table<'_>) -> Config {
    let Some(mut table) = backend.table("limits") else {
        return Config::default();
    };
    let rate = rate(&mut table, "rate");
    let concurrency = table
        .has("concurrency")
        .then(|| table.count("concurrency", 1, 1..=MOST));
    let tools = table
        .table("tools")
        .map(|tools| tool_rates(&tools))
        .unwrap_or_default();
    table.finish();
    Config {
        rate,
        concurrency: concurrency.map(|most| most as usize),
        tools,
    }
}

fn tool_rates(table: &Table<'_>) -> Vec<(Globs, Rate)> {
    let rates = table.members().into_iter().filter_map(|(pattern, node)| {
        let place = pattern.span();
        let glob = Globs::new(vec![pattern.get_ref().to_string()]);
        if let Err((_, error)) = &glob {
            let message = format!("this is not a glob: {}", error.kind());
            let help = "write a tool's name; `*` stands for anything";
            table
                .cx
                .report(Problem::error(message).at(&place).help(help));
        }
        let rate = match node.get_ref() {
            DeValue::String(text) => value::rate(text),
            _ => value::rate(""),
        };
        match rate {
            Ok(rate) => Some((glob.ok()?, rate)),
            Err(refusal) => {
                table.refused(pattern.get_ref(), &node.span(), refusal);
                None
            }
        }
    });
    rates.collect()
}

/// A rate; a bare number lacks its time.
pub(super) fn rate(table: &mut Table<'_>, key: &'static str) -> Option<Rate> {
    let node = table.take(key)?;
    if let DeValue::Integer(_) = node.get_ref() {
        let number = table.cx.text.get(node.span()).unwrap_or_default();
        let help = format!("write how many in which time, in quotes: \"{number}/min\"");
        table.wrong_type(key, node, "a rate", &help);
        return None;
    }
    table.parsed(key, value::rate)
}

/// Beyond this it is no limit.
const MOST: u32 = 1_000_000;
