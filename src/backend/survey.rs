//! One run of a server, to see what it is.
//!
//! Owns what `gatehouse pin` asks a server: the handshake or `server/discover`, all pages of its lists,
//! its instructions. Where it may speak both eras, it is asked in both, a fresh process each time: what
//! it says in one it need not say in the other. Invariant: the server is gone when this returns,
//! whatever it did.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::{
    backend::{
        Config, Instance, Isolation, Protocol,
        child::{SpawnError, Spawner, Stderr, Tag},
        era::{self, Era, Heard},
        guard,
        handshake::{self, Greeting},
        inventory::{Flaw, read_all},
        pump,
    },
    drain::Drain,
    frame::{self, Frame},
    pin::{Definition, Kind, Locked, hidden::escape, member, origin::Cache},
};

/// Why a server can't be pinned.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// It doesn't start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It doesn't shake hands; what it said on its stderr.
    #[error("it doesn't answer `initialize`{0}")]
    NoHandshake(String),
    /// It should speak a revision without a handshake, and doesn't.
    #[error("it doesn't answer `server/discover` as a server of 2026-07-28{0}")]
    NotModern(String),
    /// It doesn't list what it has.
    #[error("{list}: {flaw}")]
    List {
        /// The method.
        list: &'static str,
        /// Why.
        flaw: Flaw,
    },
    /// It lists what has no name, or can't be read.
    #[error("{0}: an item has no name of its own, or is too large or too deep to be read")]
    Nameless(&'static str),
    /// It lists two things under one name.
    #[error("{0}: `{1}` stands there twice")]
    Twice(&'static str, String),
    /// Its instructions are no text.
    #[error("its instructions are no text")]
    Instructions,
    /// Its program can't be read.
    #[error("its program can't be read: {0}")]
    Origin(String),
}

/// Runs a backend's server, once for each era that it may speak.
///
/// # Errors
/// [`SurveyError`].
pub async fn survey(
    config: &Config,
    spawner: &Spawner,
    drain: &Drain,
) -> Result<Locked, SurveyError> {
    let run = |era| run(config, spawner, drain, era);
    let (instructions, lists) = match config.protocol {
        Protocol::Legacy => run(Era::Legacy).await?,
        Protocol::Modern => run(Era::Modern).await?,
        Protocol::Auto => match (run(Era::Legacy).await, run(Era::Modern).await) {
            (Ok(legacy), Ok(modern)) => both(legacy, modern),
            (Ok(legacy), Err(SurveyError::NotModern(_))) => legacy,
            (Err(SurveyError::NoHandshake(_)), Ok(modern)) => modern,
            (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
        },
    };
    // After it ran: a runner has installed its package by now.
    let origin = guard::look(&config.child, &Arc::new(Cache::default())).await;
    Ok(Locked {
        origin: origin.map_err(SurveyError::Origin)?,
        instructions,
        lists,
    })
}

type Found = (Option<Definition>, Lists);
type Lists = [BTreeMap<String, Definition>; 3];

/// What it is in both eras; most servers are the same.
fn both((instructions, mut lists): Found, (others, modern): Found) -> Found {
    for (list, modern) in lists.iter_mut().zip(modern) {
        for (name, there) in modern {
            let here = list.remove(&name);
            list.insert(name, joined(here, there));
        }
    }
    let instructions = match (instructions, others) {
        (here, Some(there)) => Some(joined(here, there)),
        (here, None) => here,
    };
    (instructions, lists)
}

fn joined(here: Option<Definition>, there: Definition) -> Definition {
    match here {
        Some(here) => here.or_modern(there),
        None => there,
    }
}

async fn run(
    config: &Config,
    spawner: &Spawner,
    drain: &Drain,
    era: Era,
) -> Result<Found, SurveyError> {
    let child = spawner.spawn(&config.child).await?;
    let limits = Arc::new(ArcSwap::from_pointee(config.limits));
    let mixed = config.isolation == Isolation::Shared;
    let instance = Instance::new(&config.name, limits, mixed, None);
    let (pipes, stderr) = pump::Pipes::of(child);
    let tag = Tag {
        backend: config.name.clone(),
        instance: instance.number().to_string(),
    };
    instance.set_stderr(Stderr::drain(stderr, tag, &config.child.env, drain));
    let running = pump::run(instance.clone(), pipes, config.child.stop_timeout);
    let running = drain.spawn(running);
    let read = read(&instance, config, era).await;
    instance.stop();
    // It reports nothing that matters here.
    let _ = running.await;
    read
}

async fn read(instance: &Arc<Instance>, config: &Config, era: Era) -> Result<Found, SurveyError> {
    let hello = match era {
        Era::Legacy => greet(instance, config).await?,
        Era::Modern => discover(instance, config).await?,
    };
    instance.inventory().declare(&hello);
    let instructions = match member(&hello, "instructions") {
        None | Some(b"null") => None,
        Some(raw) => Some(Definition::of_instructions(raw).ok_or(SurveyError::Instructions)?),
    };
    let mut lists = Lists::default();
    for kind in Kind::ALL {
        if instance.inventory().has(kind) {
            lists[kind.index()] = list(instance, kind, config).await?;
        }
    }
    Ok((instructions, lists))
}

async fn greet(instance: &Arc<Instance>, config: &Config) -> Result<Bytes, SurveyError> {
    let greeting = Greeting {
        initialize: Frame::from_child(frame::request(b"0", "initialize", None))
            .map_err(|_| SurveyError::NoHandshake(String::new()))?,
        anonymous: true,
        timeout: config.start_timeout,
    };
    let hello = handshake::greet(instance.clone(), greeting).await;
    hello.map_err(|_| SurveyError::NoHandshake(last_words(instance)))
}

async fn discover(instance: &Arc<Instance>, config: &Config) -> Result<Bytes, SurveyError> {
    instance.inventory().speak(era::MODERN);
    let patience = match config.protocol {
        Protocol::Modern => config.start_timeout,
        // One that speaks the other era may well say nothing.
        Protocol::Auto | Protocol::Legacy => config.start_timeout.min(PATIENCE),
    };
    match era::interview(instance, patience).await {
        Heard::Modern(discovered) => Ok(discovered.result),
        Heard::Other | Heard::Nothing => Err(SurveyError::NotModern(last_words(instance))),
    }
}

async fn list(
    instance: &Instance,
    kind: Kind,
    config: &Config,
) -> Result<BTreeMap<String, Definition>, SurveyError> {
    let mut found = BTreeMap::new();
    let mut wrong = None;
    let method = kind.method();
    let read = read_all(instance, kind, config.start_timeout, |item| {
        match Definition::of_item(kind, item.raw) {
            None => wrong = Some(SurveyError::Nameless(method)),
            Some(one) if found.contains_key(&one.name) => {
                wrong = Some(SurveyError::Twice(method, escape(&one.name)));
            }
            Some(one) => {
                found.insert(one.name.clone(), one);
            }
        }
        if wrong.is_some() || found.len() > MAX_FOUND {
            return Err(Flaw::TooMuch);
        }
        Ok(())
    })
    .await;
    match (wrong, read) {
        (Some(wrong), _) => Err(wrong),
        (None, Err(flaw)) => Err(SurveyError::List { list: method, flaw }),
        (None, Ok(())) => Ok(found),
    }
}

fn last_words(instance: &Instance) -> String {
    let tail = String::from_utf8_lossy(&instance.stderr_tail()).into_owned();
    match tail.trim().lines().last() {
        Some(line) => format!("; it said: {}", escape(line)),
        None => String::new(),
    }
}

/// Silence for so long means that a server doesn't know the question.
const PATIENCE: Duration = Duration::from_secs(8);
/// More definitions of one kind nobody reviews.
const MAX_FOUND: usize = 10_000;
