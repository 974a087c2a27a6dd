//! What the child's mount namespace shows.
//!
//! Owns the mounts that are laid over it. It must only run in a mount namespace that no process
//! outside of the child's tree is in. Invariant: nothing is laid over before what is mounted there
//! is cut off from the namespace that it came from.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::statvfs::{FsFlags, statvfs},
    unistd,
};

use super::{Plan, Refused, TMP_SIZE};

const NONE: Option<&str> = None;

/// Lays over what the plan says; `root` when the child stays that.
pub(super) fn arrange(plan: &Plan, root: bool) -> Result<(), Refused> {
    // Or these mounts would show outside as well.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(NONE, "/", NONE, slave, NONE).map_err(Refused::at("cutting off mounts"))?;
    if let Some(tmp) = &plan.tmp {
        private_tmp(Path::new(tmp), plan)?;
    }
    hold_ancestors(plan)?;
    fix(plan)?;
    if !plan.masked.is_empty() {
        mask(plan)?;
    }
    let tamed = root && !plan.strict && Path::new("/sys/kernel").exists();
    if plan.grouped || !plan.strict {
        close_groups(tamed)?;
    }
    if root && !plan.strict {
        tame_root()?;
    }
    Ok(())
}

/// Control groups can be seen and not changed: a child of the user to whom they are delegated would
/// let itself out, or end others in theirs. Those below `/sys` are not there any more when that is `tamed`.
fn close_groups(tamed: bool) -> Result<(), Refused> {
    let mounts = fs::read_to_string("/proc/self/mountinfo");
    let mounts = mounts.map_err(Refused::at("looking for control groups"))?;
    let closed = || Refused::at("closing control groups");
    let groups = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_group = after.starts_with("cgroup2 ") || after.starts_with("cgroup ");
        is_group.then(|| before.split(' ').nth(4)).flatten()
    });
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
    for place in groups {
        // As the kernel writes a space.
        let place = &*place.replace("\\040", " ");
        // Under another mount it is out of reach.
        if tamed && Path::new(place).starts_with("/sys") || !Path::new(place).exists() {
            continue;
        }
        mount(Some(place), place, NONE, MsFlags::MS_BIND, NONE).map_err(closed())?;
        mount(NONE, place, NONE, read_only, NONE).map_err(closed())?;
    }
    Ok(())
}

/// A file system in memory that goes with the namespace.
fn private_tmp(tmp: &Path, plan: &Plan) -> Result<(), Refused> {
    let (uid, gid) = plan.user.unwrap_or_else(|| {
        let (uid, gid) = (unistd::geteuid(), unistd::getegid());
        (uid.as_raw(), gid.as_raw())
    });
    let options = format!("size={TMP_SIZE},nr_inodes={TMP_FILES},mode=0700,uid={uid},gid={gid}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        tmp,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
    .map_err(Refused::at("making a private TMPDIR"))
}

/// Puts a file or a folder that nobody can open in the place of each path.
fn mask(plan: &Plan) -> Result<(), Refused> {
    let failed = || Refused::at("hiding the gateway's own files");
    let unmade = || Refused::at("hiding the gateway's own files");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let stage = Path::new(STAGE);
    mount(Some("tmpfs"), stage, Some("tmpfs"), flags, Some("size=16k")).map_err(failed())?;
    let (file, folder) = (stage.join("file"), stage.join("folder"));
    let closed = Permissions::from_mode(0o000);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o000)
        .open(&file);
    made.map_err(unmade())?;
    fs::create_dir(&folder).map_err(unmade())?;
    fs::set_permissions(&folder, closed).map_err(unmade())?;
    let read_only = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(NONE, stage, NONE, read_only, NONE).map_err(failed())?;
    for path in plan.masked.iter().map(Path::new) {
        // What is gone by now needs no mask.
        let meta = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(unmade())?,
        };
        let cover = if meta.is_dir() { &folder } else { &file };
        mount(Some(cover), path, NONE, MsFlags::MS_BIND, NONE).map_err(failed())?;
    }
    // It stays: to unmount it would be to wait for all CPUs, as long as all the rest takes.
    Ok(())
}

/// Makes folders read-only. What else is mounted in one is covered by it.
fn fix(plan: &Plan) -> Result<(), Refused> {
    let failed = || Refused::at("closing the folder of installed packages");
    for path in plan.fixed.iter().map(Path::new) {
        mount(Some(path), path, NONE, MsFlags::MS_BIND, NONE).map_err(failed())?;
        // What holds of it already may not be given up in a namespace.
        let known = statvfs(path).map_err(failed())?.flags();
        let kept = KEPT
            .iter()
            .filter(|(known_as, _)| known.contains(*known_as));
        let flags = kept.fold(MsFlags::MS_RDONLY, |flags, (_, flag)| flags | *flag);
        let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
        mount(NONE, path, NONE, remount, NONE).map_err(failed())?;
    }
    Ok(())
}

/// Makes a mount of each folder on the way to what is masked or fixed: a mount can't be renamed, while a
/// folder that holds one can, and another be put in its place for the gateway to read.
fn hold_ancestors(plan: &Plan) -> Result<(), Refused> {
    let failed = || Refused::at("holding the folders of the gateway's own files");
    // In order: those above first, so that those below are mounts within them.
    let held: BTreeSet<&Path> = plan
        .masked
        .iter()
        .chain(&plan.fixed)
        .flat_map(|path| Path::new(path).ancestors().skip(1))
        .filter(|folder| folder.parent().is_some())
        .collect();
    let whole = MsFlags::MS_BIND | MsFlags::MS_REC;
    for folder in held {
        match mount(Some(folder), folder, NONE, whole, NONE) {
            // Before its first start, or where it may make none, there is none yet: then there is no
            // file below it either that a child could reach.
            Err(Errno::ENOENT) => {}
            held => held.map_err(failed())?,
        }
    }
    Ok(())
}

/// Takes from root what it may open without any capability: raw disks, the kernel's settings, and
/// what else is root's own in `/dev`, `/proc` and `/sys`.
fn tame_root() -> Result<(), Refused> {
    private_dev().map_err(Refused::at("making a private /dev"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
    mount(NONE, "/proc", NONE, read_only, NONE).map_err(Refused::at("closing /proc"))?;
    if Path::new("/sys/kernel").exists() {
        let closed = || Refused::at("closing /sys");
        // Not recursive: what is mounted below is covered by it.
        mount(Some("/sys"), "/sys", NONE, MsFlags::MS_BIND, NONE).map_err(closed())?;
        mount(NONE, "/sys", NONE, read_only, NONE).map_err(closed())?;
    }
    Ok(())
}

fn private_dev() -> std::io::Result<()> {
    // Each node by the descriptor of the one outside, which is about to be covered.
    let nodes: Vec<(&str, File)> = DEVICES
        .iter()
        .filter_map(|name| {
            let node = OpenOptions::new()
                .read(true)
                .custom_flags(nix::libc::O_PATH)
                .open(Path::new("/dev").join(name));
            Some((*name, node.ok()?))
        })
        .collect();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("tmpfs"),
        "/dev",
        Some("tmpfs"),
        flags,
        Some("size=64k,mode=0755"),
    )?;
    for (name, node) in &nodes {
        let place = Path::new("/dev").join(name);
        File::create(&place)?;
        let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(node));
        mount(Some(from.as_str()), &place, NONE, MsFlags::MS_BIND, NONE)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, Path::new("/dev").join(name))?;
    }
    let shared = Path::new("/dev/shm");
    fs::create_dir(shared)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        shared,
        Some("tmpfs"),
        flags,
        Some("size=64m,mode=1777"),
    )?;
    Ok(())
}

/// Where what masks others is made. It is always there, and no program has business in it.
const STAGE: &str = "/proc/fs";

/// How a file system is mounted, as it says and as it is told.
const KEPT: &[(FsFlags, MsFlags)] = &[
    (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
    (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
    (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
    (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
    (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
];

/// Of character devices only those that give nothing away.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Files and folders in a private TMPDIR.
const TMP_FILES: u32 = 65_536;
