use std::{ffi::OsString, io::Read, os::unix::ffi::OsStringExt};

use proptest::prelude::*;

use super::Spec;

fn bytes() -> impl Strategy<Value = OsString> {
    proptest::collection::vec(any::<u8>(), 0..20).prop_map(OsString::from_vec)
}

fn spec() -> impl Strategy<Value = Spec> {
    let argv = proptest::collection::vec(bytes(), 0..5);
    let env = proptest::collection::vec((bytes(), bytes()), 0..5);
    let sandbox = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
    let group = proptest::option::of(bytes().prop_filter("a path", |path| !path.is_empty()));
    (bytes(), bytes(), argv, env, (sandbox, group)).prop_map(
        |(program, cwd, argv, env, (sandbox, group))| Spec {
            program,
            cwd,
            argv,
            env,
            sandbox,
            group,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_no_byte_more(spec in spec(), after in proptest::collection::vec(any::<u8>(), 0..9)) {
        let stream = [spec.encode(), after.clone()].concat();
        let mut input = stream.as_slice();
        prop_assert_eq!(Spec::read(&mut input).unwrap(), Some(spec));
        let mut rest = Vec::new();
        input.read_to_end(&mut rest).unwrap();
        prop_assert_eq!(rest, after);
    }

    #[test]
    fn a_cut_specification_is_refused(spec in spec(), cut in any::<prop::sample::Index>()) {
        let stream = spec.encode();
        let cut = 1 + cut.index(stream.len() - 1);
        prop_assert!(Spec::read(&mut &stream[..cut]).is_err());
    }

    #[test]
    fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Spec::read(&mut junk.as_slice());
    }
}

#[test]
fn an_empty_input_is_no_specification() {
    assert_eq!(Spec::read(&mut &b""[..]).unwrap(), None);
}

#[test]
fn a_length_beyond_any_exec_is_refused_unread() {
    assert!(Spec::read(&mut &u32::MAX.to_le_bytes()[..]).is_err());
}
