//! Messages that the gateway itself writes.
//!
//! Owns the escaping of text into JSON. Raw arguments must be compact JSON already, as everything
//! from a [`super::Frame`] is.

use bytes::Bytes;

use super::compact;

/// `{"jsonrpc":"2.0","id":…,"error":{"code":…,"message":…,"data":…}}`; without `id` when it is not
/// known, since MCP's schema has no `null` there. `id` and `data` are raw JSON.
#[must_use]
pub fn error_response(id: Option<&[u8]>, code: i32, message: &str, data: Option<&str>) -> Bytes {
    let mut out = opening();
    if let Some(id) = id {
        member(&mut out, "id", id);
    }
    member(&mut out, "error", b"{\"code\":");
    out.extend_from_slice(code.to_string().as_bytes());
    out.extend_from_slice(b",\"message\":");
    quote(message, &mut out);
    if let Some(data) = data {
        member(&mut out, "data", data.as_bytes());
    }
    out.extend_from_slice(b"}}");
    out.into()
}

/// `{"jsonrpc":"2.0","id":…,"result":…}`; both are raw JSON.
#[must_use]
pub fn result_response(id: &[u8], result: &[u8]) -> Bytes {
    let mut out = opening();
    member(&mut out, "id", id);
    member(&mut out, "result", result);
    out.push(b'}');
    out.into()
}

/// `{"jsonrpc":"2.0","method":…,"params":…}`; `params` is raw JSON.
#[must_use]
pub fn notification(method: &str, params: Option<&[u8]>) -> Bytes {
    call(None, method, params)
}

/// `{"jsonrpc":"2.0","id":…,"method":…,"params":…}`; `id` and `params` are raw JSON.
#[must_use]
pub fn request(id: &[u8], method: &str, params: Option<&[u8]>) -> Bytes {
    call(Some(id), method, params)
}

fn call(id: Option<&[u8]>, method: &str, params: Option<&[u8]>) -> Bytes {
    let mut out = opening();
    if let Some(id) = id {
        member(&mut out, "id", id);
    }
    out.extend_from_slice(b",\"method\":");
    quote(method, &mut out);
    if let Some(params) = params {
        member(&mut out, "params", params);
    }
    out.push(b'}');
    out.into()
}

fn opening() -> Vec<u8> {
    b"{\"jsonrpc\":\"2.0\"".to_vec()
}

fn member(out: &mut Vec<u8>, name: &str, raw: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(raw);
}

/// Appends a string token: quotes, backslashes, control characters and line separators escaped.
pub fn quote(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut inner = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => inner.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                inner.extend_from_slice(b"\\u00");
                inner.push(HEX[usize::from(byte >> 4)]);
                inner.push(HEX[usize::from(byte & 15)]);
            }
            _ => inner.push(byte),
        }
    }
    out.push(b'"');
    compact::escaped(&inner, out);
    out.push(b'"');
}
