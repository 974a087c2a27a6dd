//! A stdio MCP server with everything that the official conformance suite asks of one, in both
//! eras: the revisions that begin with `initialize`, up to 2025-11-25, and 2026-07-28, which has
//! no handshake.
//!
//! Every fixture is written once, free of any revision: what it asks the client for, in rounds,
//! and what it answers in the end. `legacy` puts its questions as requests of its own, `modern`
//! as results that require input.
//!
//! # Arguments
//!
//! | argument | effect |
//! | --- | --- |
//! | `--era legacy` | knows `initialize` alone; `server/discover` is an unknown method |
//! | `--era modern` | knows 2026-07-28 alone; refuses `initialize` with -32022 |
//! | `--era both` | speaks the era of the first request, and no other from then on (the default) |
//! | `--before-initialize exit` | a legacy server that exits when a request comes before `initialize` |
//! | `--before-initialize silent` | … that never answers such a request |
//! | `--before-initialize CODE` | … that answers it with that error (default: -32601 if the method is unknown, else -32600) |
//! | `--mute-unknown` | never answers a method that it doesn't know |
//! | `--start-delay MS` | reads nothing for so long |
//! | `--name NAME` | calls itself NAME (default: `conformance`) |
//!
//! It ends when stdin ends, whatever is under way.
//!
//! # Beyond the suite
//!
//! | tool | effect |
//! | --- | --- |
//! | `test_trigger_resource_change`, `test_trigger_resource_update{uri}` | the list of resources changed; that resource did |
//! | `test_url_elicitation` | asks for a visit to a URL, then says that it was made |
//! | `test_url_elicitation_required` | legacy: refuses every first of two calls with -32042 |
//! | `test_input_required_result_state_only` | modern: one result that carries nothing but a state |
//! | `test_client` | what it knows of the client: name, capabilities, revision |

mod asking;
mod call;
mod content;
mod legacy;
mod legacy_tasks;
mod listen;
mod modern;
mod modern_tasks;
mod options;
mod prompts;
mod resources;
mod state;
mod tasks;
mod tools;
mod wire;

use std::{
    io::{self, BufRead as _, Write as _},
    process, thread,
};

use options::{Era, Options};
use wire::{Line, Peer};

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            let _ = writeln!(io::stderr(), "conformance: {problem}");
            process::exit(2)
        }
    };
    thread::sleep(options.start_delay);
    let server = Server {
        peer: Peer::new(&options.name),
        era: options.era,
        options,
    };
    server.run();
    // Whatever still runs is of no use to anybody.
    process::exit(0)
}

struct Server {
    peer: Peer,
    options: Options,
    /// Unknown until the first request.
    era: Option<Era>,
}

impl Server {
    fn run(mut self) {
        let mut input = io::stdin().lock();
        let mut bytes = Vec::new();
        while input
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|count| count > 0)
        {
            if let Some(line) = Line::parse(&bytes) {
                self.receive(line);
            }
            bytes.clear();
        }
    }

    fn receive(&mut self, line: Line) {
        let Some(method) = line.method.as_deref() else {
            self.peer.deliver(&line);
            return;
        };
        if line.id.is_none() {
            self.notified(method, &line);
            return;
        }
        let era = *self
            .era
            .get_or_insert_with(|| Era::of(method, &line.params));
        match era {
            Era::Legacy => legacy::receive(&self.peer, &self.options, line),
            Era::Modern => modern::receive(&self.peer, &self.options, line),
        }
    }

    fn notified(&self, method: &str, line: &Line) {
        if method == "notifications/cancelled"
            && let Some(id) = line.params.get("requestId")
        {
            self.peer.cancel(&id.to_string());
        }
    }
}
