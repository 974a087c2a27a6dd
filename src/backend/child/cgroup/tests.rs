use std::fs;

use super::*;

#[test]
fn one_that_is_dropped_with_something_in_it_goes_with_the_next_that_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::in_folder(folder.path());
    let shared = Shared {
        memory: None,
        processes: None,
        cpu_time: None,
    };
    let busy = place.make(&shared).unwrap();
    let path = busy.path().to_owned();
    // The order to kill is a file in a folder that is no group: something that stays for a while.
    drop(busy);
    assert!(path.exists());
    let other = place.make(&shared).unwrap();
    assert!(path.exists() && other.path().exists());
    fs::remove_file(path.join("cgroup.kill")).unwrap();
    let next = place.make(&shared).unwrap();
    assert!(!path.exists(), "what was left is empty now");
    assert!(next.path().exists() && other.path().exists());
}
