//! What the gateway tells the last launcher stage: length-prefixed bytes ahead of the stdin.
//!
//! Owns the one format between the two. It must never reach an argv or an environment on its way:
//! the values in it are secret, and the stages that stay alive never read them. Invariant: what is
//! written is read back byte for byte, and not one byte after it is taken from the command's stdin.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// A command, ready for exec.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Spec {
    /// Absolute path of the executable.
    pub(super) program: OsString,
    /// Absolute path of the working directory.
    pub(super) cwd: OsString,
    /// The argv array, its first element as configured. Empty: the sandbox is tried and nothing
    /// is started.
    pub(super) argv: Vec<OsString>,
    /// The whole environment.
    pub(super) env: Vec<(OsString, OsString)>,
    /// An encoded [`Plan`](crate::sandbox::Plan); only without a sandbox there is none.
    pub(super) sandbox: Option<Vec<u8>>,
    /// The control group that it is to be in.
    pub(super) group: Option<OsString>,
}

impl Spec {
    /// Refuses what no exec can carry.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let mut strings = self
            .argv
            .iter()
            .chain(self.env.iter().map(|(_, value)| value));
        if strings.any(|s| s.as_bytes().contains(&0)) {
            return Err("a NUL byte in an argument or an environment value");
        }
        let bad_name = |name: &OsStr| {
            name.is_empty() || name.as_bytes().iter().any(|byte| matches!(byte, 0 | b'='))
        };
        if self.env.iter().any(|(name, _)| bad_name(name)) {
            return Err("an environment name that is empty or holds '=' or NUL");
        }
        if self.encode().len() > MAX_LEN {
            return Err("arguments and environment are too long");
        }
        Ok(())
    }

    /// The bytes to write ahead of the command's stdin.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, &self.program);
        put(&mut body, &self.cwd);
        put_count(&mut body, self.argv.len());
        self.argv.iter().for_each(|arg| put(&mut body, arg));
        put_count(&mut body, self.env.len());
        for (name, value) in &self.env {
            put(&mut body, name);
            put(&mut body, value);
        }
        put_count(&mut body, usize::from(self.sandbox.is_some()));
        if let Some(sandbox) = &self.sandbox {
            put(&mut body, OsStr::from_bytes(sandbox));
        }
        put(&mut body, self.group.as_deref().unwrap_or_default());
        let mut out = Vec::with_capacity(body.len() + 4);
        put_count(&mut out, body.len());
        out.append(&mut body);
        out
    }

    /// Reads exactly one; `None` when the input ends before the first byte.
    #[cfg_attr(
        not(any(target_os = "linux", test)),
        allow(dead_code, reason = "no launcher there")
    )]
    pub(super) fn read(input: &mut impl Read) -> io::Result<Option<Self>> {
        let mut first = [0; 1];
        if input.read(&mut first)? == 0 {
            return Ok(None);
        }
        let mut rest = [0; 3];
        input.read_exact(&mut rest)?;
        let len = u32::from_le_bytes([first[0], rest[0], rest[1], rest[2]]) as usize;
        if len > MAX_LEN {
            return Err(malformed());
        }
        let mut body = vec![0; len];
        input.read_exact(&mut body)?;
        Self::decode(&mut body.as_slice()).map(Some)
    }

    fn decode(body: &mut &[u8]) -> io::Result<Self> {
        let program = take(body)?;
        let cwd = take(body)?;
        let argv = (0..take_count(body)?)
            .map(|_| take(body))
            .collect::<io::Result<_>>()?;
        let env = (0..take_count(body)?)
            .map(|_| Ok((take(body)?, take(body)?)))
            .collect::<io::Result<_>>()?;
        let sandbox = match take_count(body)? {
            0 => None,
            1 => Some(take(body)?.into_vec()),
            _ => return Err(malformed()),
        };
        let group = Some(take(body)?).filter(|path| !path.is_empty());
        if !body.is_empty() {
            return Err(malformed());
        }
        Ok(Self {
            program,
            cwd,
            argv,
            env,
            sandbox,
            group,
        })
    }
}

/// More than any kernel takes for arguments and environment together.
const MAX_LEN: usize = 8 << 20;

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
}

fn put(out: &mut Vec<u8>, value: &OsStr) {
    put_count(out, value.len());
    out.extend_from_slice(value.as_bytes());
}

fn take_count(body: &mut &[u8]) -> io::Result<usize> {
    let (count, rest) = body.split_first_chunk::<4>().ok_or_else(malformed)?;
    *body = rest;
    Ok(u32::from_le_bytes(*count) as usize)
}

fn take(body: &mut &[u8]) -> io::Result<OsString> {
    let len = take_count(body)?;
    let (value, rest) = body.split_at_checked(len).ok_or_else(malformed)?;
    *body = rest;
    Ok(OsString::from_vec(value.to_vec()))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed launch specification")
}

#[cfg(test)]
mod tests;
