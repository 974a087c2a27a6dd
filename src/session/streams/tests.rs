use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Bounds, First, Streams};
use crate::session::Budget;

fn streams() -> Streams {
    Streams::new(Bounds {
        replay: 1024,
        waiting: 1024,
        budget: Arc::new(Budget::new(4096)),
        kept: Arc::new(Budget::new(1 << 20)),
    })
}

#[test]
fn a_post_that_has_heard_nothing_becomes_a_stream_where_its_client_takes_one() {
    let mut streams = streams();
    let before = Instant::now();
    let (_, mut takes) = streams.open(1, true);
    let (_, mut refuses) = streams.open(1, false);
    let (answered, mut has) = streams.open(1, true);
    streams.answer(answered, Some("{}".into()));
    streams.break_silence(before - Duration::from_secs(1));
    assert!(takes.try_recv().is_err(), "its time has not come");
    streams.break_silence(Instant::now());
    assert!(matches!(takes.try_recv(), Ok(First::Stream)));
    assert!(refuses.try_recv().is_err());
    assert!(matches!(has.try_recv(), Ok(First::Answer(_))));
}
