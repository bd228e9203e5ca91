//! The power fails: `kill -9` keeps what the kernel has not written yet, so here only what was synced comes back.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::support::history::{Clients, Round, check, is_telling};
use crate::support::process::Broker;
use crate::support::{block_on, compile, needs};

/// The library that sees what is synced, compiled.
fn library(directory: &Path) -> PathBuf {
    let library = directory.join("powerloss.so");
    compile("powerloss.c", &library);
    library
}

/// A disk of which only what was synced survives.
struct Disk {
    home: PathBuf,
    shadow: PathBuf,
    preload: PathBuf,
}

impl Disk {
    fn new(directory: &Path) -> Self {
        let (home, shadow) = (directory.join("home"), directory.join("shadow"));
        std::fs::create_dir(&home).unwrap();
        std::fs::create_dir(&shadow).unwrap();
        Self { home, shadow, preload: library(directory) }
    }

    fn start(&self) -> Broker {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (library, root, shadow) = (path(&self.preload), path(&self.home), path(&self.shadow));
        let env = [
            ("LD_PRELOAD", library.as_str()),
            ("POWERLOSS_ROOT", root.as_str()),
            ("POWERLOSS_SHADOW", shadow.as_str()),
        ];
        Broker::start_with(&self.home, &["--snapshot-every", "30"], &env)
    }

    /// What stands in the shadow of a file or directory; nothing, if it was never synced.
    fn shadow_of(&self, kind: &str, inode: u64) -> Vec<u8> {
        std::fs::read(self.shadow.join(format!("{kind}-{inode}"))).unwrap_or_default()
    }

    /// Puts the data directory back as the disk has it: the names that came back.
    fn fail(&self) -> Vec<String> {
        let data = self.home.join("dev");
        let (home, inode) = (inode(&self.home), inode(&data));
        let listed = |inode| String::from_utf8(self.shadow_of("list", inode)).unwrap();
        let named = listed(home).lines().any(|line| line == format!("{inode} list dev"));
        assert!(named, "the data directory itself was not on the disk");
        let content = |line: &str| {
            let [inode, kind, name] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert_eq!(kind, "file", "the data directory is flat");
            (name.to_owned(), self.shadow_of("file", inode.parse().unwrap()))
        };
        // SQLite makes its shared memory anew.
        let mut kept: Vec<_> = listed(inode).lines().map(content).filter(|(name, _)| !name.ends_with("-shm")).collect();
        kept.sort();
        for old in [&data, &self.shadow] {
            std::fs::remove_dir_all(old).unwrap();
            std::fs::DirBuilder::new().mode(0o700).create(old).unwrap();
        }
        // What came back is on the disk, under the inodes that it has now.
        let mut list = String::new();
        for (name, content) in &kept {
            let path = data.join(name);
            let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            file.write_all(content).unwrap();
            std::fs::write(self.shadow.join(format!("file-{}", self::inode(&path))), content).unwrap();
            list += &format!("{} file {name}\n", self::inode(&path));
        }
        let inode = self::inode(&data);
        std::fs::write(self.shadow.join(format!("list-{inode}")), list).unwrap();
        std::fs::write(self.shadow.join(format!("list-{home}")), format!("{inode} list dev\n")).unwrap();
        kept.into_iter().map(|(name, _)| name).collect()
    }
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[test]
fn acknowledged_is_kept_when_the_power_fails() {
    let found = Command::new("cc").arg("--version").output().is_ok_and(|output| output.status.success());
    if !needs("acknowledged_is_kept_when_the_power_fails", "cc", found) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let mut broker = disk.start();
    broker.agent("planner");
    broker.agent("coder");
    let mut task: Option<String> = None;
    let mut history: Vec<Round> = Vec::new();
    // Twice, the second time from what the first left; then once more only to look.
    for life in 0..3 {
        let rounds = Mutex::new(Vec::new());
        block_on(async {
            let clients = Clients::connect(&broker, task.as_deref()).await;
            for round in &history {
                check(&format!("life {life}"), round, &clients.look(round).await);
            }
            if life < 2 {
                let names = [format!("one-{life}"), format!("two-{life}")];
                let (one, two) = tokio::join!(clients.work(&names[0], 6, &rounds), clients.work(&names[1], 6, &rounds));
                assert!(one.is_none() && two.is_none(), "{one:?} {two:?}");
            }
            task = Some(clients.task().to_owned());
        });
        broker.kill();
        if life == 2 {
            break;
        }
        let rounds = rounds.into_inner().unwrap();
        assert!(is_telling(&rounds), "{rounds:?}");
        history.extend(rounds);
        assert_eq!(
            disk.fail(),
            ["ledger.db", "ledger.db-wal", "lock", "master.key", "reserve"],
            "files that were synced"
        );
        broker = disk.start();
    }
}
