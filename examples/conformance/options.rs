//! The arguments of the command line; the table at the head of the program says what they do.

use std::time::Duration;

use serde_json::Value;

use crate::modern;

/// With a handshake, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

impl Era {
    /// The era that a request belongs to.
    pub(crate) fn of(method: &str, params: &Value) -> Self {
        let claims = params["_meta"].get(modern::VERSION_KEY).is_some();
        if claims || method == "server/discover" {
            Self::Modern
        } else {
            Self::Legacy
        }
    }
}

/// What a legacy server does with a request that comes before `initialize`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Early {
    #[default]
    Refuse,
    RefuseWith(i64),
    Exit,
    Silent,
}

#[derive(Debug)]
pub(crate) struct Options {
    /// Both, if none is given.
    pub(crate) era: Option<Era>,
    pub(crate) early: Early,
    pub(crate) mute_unknown: bool,
    pub(crate) start_delay: Duration,
    pub(crate) name: String,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            era: None,
            early: Early::default(),
            mute_unknown: false,
            start_delay: Duration::ZERO,
            name: "conformance".to_owned(),
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or(format!("{name} takes a value"));
            match name.as_str() {
                "--era" => {
                    options.era = match value()?.as_str() {
                        "legacy" => Some(Era::Legacy),
                        "modern" => Some(Era::Modern),
                        "both" => None,
                        era => return Err(format!("no such era: {era}")),
                    }
                }
                "--before-initialize" => {
                    options.early = match value()?.as_str() {
                        "exit" => Early::Exit,
                        "silent" => Early::Silent,
                        code => Early::RefuseWith(number(code)?),
                    }
                }
                "--mute-unknown" => options.mute_unknown = true,
                "--start-delay" => options.start_delay = Duration::from_millis(number(&value()?)?),
                "--name" => options.name = value()?,
                _ => return Err(format!("no such argument: {name}")),
            }
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}
