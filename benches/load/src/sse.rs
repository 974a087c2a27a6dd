//! Server-sent events out of a growing buffer.

/// Takes whole events from the front of `buffer`, hands each one's name (empty: `message`) and data
/// to `each`, and leaves what isn't complete yet. Comments and empty events are passed over.
pub fn drain_events(buffer: &mut Vec<u8>, scanned: &mut usize, mut each: impl FnMut(&[u8], &[u8])) {
    let mut start = 0;
    // An event ends at an empty line; only lines that are complete are looked at, once each.
    let mut line_start = *scanned;
    let mut event = Event::default();
    // Lines before `scanned` belong to the event that isn't complete; they are read again.
    let mut cursor = 0;
    while let Some(step) = memchr::memchr(b'\n', &buffer[line_start..]) {
        let end = line_start + step;
        if trim(&buffer[line_start..end]).is_empty() {
            read_lines(&buffer[cursor..end], &mut event);
            event.finish(&mut each);
            start = end + 1;
            cursor = start;
        }
        line_start = end + 1;
    }
    buffer.drain(..start);
    *scanned = line_start - start;
}

#[derive(Default)]
struct Event {
    name: Vec<u8>,
    data: Vec<u8>,
    lines: usize,
}

impl Event {
    fn finish(&mut self, each: &mut impl FnMut(&[u8], &[u8])) {
        if self.lines > 0 && !self.data.is_empty() {
            each(&self.name, &self.data);
        }
        self.name.clear();
        self.data.clear();
        self.lines = 0;
    }
}

fn read_lines(block: &[u8], event: &mut Event) {
    let mut from = 0;
    while from < block.len() {
        let to = memchr::memchr(b'\n', &block[from..]).map_or(block.len(), |step| from + step);
        let line = trim(&block[from..to]);
        if let Some(value) = line.strip_prefix(b"data:") {
            if event.lines > 0 {
                event.data.push(b'\n');
            }
            event
                .data
                .extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            event.lines += 1;
        } else if let Some(value) = line.strip_prefix(b"event:") {
            event
                .name
                .extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        from = to + 1;
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::drain_events;

    #[test]
    fn events_are_the_same_however_the_bytes_arrive() {
        let text =
            b": hi\n\nevent: endpoint\ndata: /m?x=1\n\r\nid: 4\ndata:\n\ndata: a\ndata: b\n\n\
                     event:message\r\ndata:{}\r\n\r\ndata: part";
        for size in 1..text.len() {
            let (mut buffer, mut scanned, mut seen) = (Vec::new(), 0, Vec::new());
            for piece in text.chunks(size) {
                buffer.extend_from_slice(piece);
                drain_events(&mut buffer, &mut scanned, |name, data| {
                    seen.push((name.to_vec(), data.to_vec()));
                });
            }
            let seen: Vec<(&[u8], &[u8])> = seen.iter().map(|(a, b)| (&a[..], &b[..])).collect();
            let wanted: [(&[u8], &[u8]); 3] = [
                (b"endpoint", b"/m?x=1"),
                (b"", b"a\nb"),
                (b"message", b"{}"),
            ];
            assert_eq!(seen, wanted, "pieces of {size}");
            assert_eq!(buffer, b"data: part");
        }
    }
}
