//! The app's end and the engine's own.

use std::sync::atomic::Ordering;

use base::Problem;
use console::wire::Accepted;

use super::{Carrier, Done, unwritable};
use crate::engine::ending::WhenDown;
use crate::engine::given;

impl Carrier {
    /// Stops everything; what follows is kept first, for an engine that comes after this one.
    pub(super) fn go_down(&mut self, wish: WhenDown) -> Result<Result<Accepted, Problem>, Problem> {
        match wish.keep(&self.shared.state_dir) {
            // Stopping may be what makes room. An engine that dies before the end of it leaves
            // the rest to the next one that is asked.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                eprintln!("error: what follows the end is not kept: {error}");
                WhenDown::forget(&self.shared.state_dir);
            }
            Err(error) => return Ok(Err(unwritable(error))),
            Ok(()) => {}
        }
        let answer = self.command(control::Command::Down)?;
        match answer {
            Ok(_) => self.set_when_down(Some(wish)),
            Err(_) => WhenDown::forget(&self.shared.state_dir),
        }
        Ok(answer)
    }

    pub(super) fn set_when_down(&mut self, wish: Option<WhenDown>) {
        self.discarded = false;
        self.when_down = wish;
        self.shared.ending.store(wish.is_some_and(|wish| wish.exit), Ordering::Relaxed);
    }

    /// Discards what no app needs. A file that cannot go stays; that holds nothing up.
    fn discard(&self, volumes: bool) {
        let folder = self.shared.state_dir.join("volumes");
        // One by one: a volume may be a disk that is mounted there.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|_| volumes) {
            let _ = self.agent.discard(&entry.path());
        }
        let _ = self.shared.builder.prune(&[], builder::Keep::default(), self.shared.clock.now());
        let _ = self.agent.discard(&given::folder(&self.shared.state_dir));
    }

    /// Whether the engine ends now; does first what was wanted for when the app is down.
    pub(super) fn ended(&mut self) -> bool {
        let Some(wish) = self.when_down.filter(|_| !self.leaving) else { return self.leaving };
        let down = self.control.state().app.is_none() && self.agent.instances().is_empty();
        if !down || !self.works.is_empty() {
            return false;
        }
        if !std::mem::replace(&mut self.discarded, true) {
            self.discard(wish.volumes);
            if wish.exit {
                // Kept by an engine that goes on, since others may not look into it.
                let _ = std::fs::remove_dir(self.shared.state_dir.join("volumes"));
                // Who asked sees the engine go when the room on the disk is free.
                let agent = self.agent.clone();
                self.works.spawn(async move {
                    agent.deleted().await;
                    Done::Other
                });
                return false;
            }
        }
        self.shared.host_ports.forget();
        WhenDown::forget(&self.shared.state_dir);
        if !wish.exit {
            // One that exits is called ending until nobody can ask any more.
            self.set_when_down(None);
        }
        wish.exit
    }

    /// Stops everything when the state folder was deleted: the instances' own files are gone with
    /// it, and nobody could reach this engine any more.
    pub(super) fn look_for_folder(&mut self) -> Result<(), Problem> {
        if self.when_down.is_some() || self.shared.folder.is_there() {
            return Ok(());
        }
        eprintln!("error: the state folder was deleted; stopping what ran from it");
        self.set_when_down(Some(WhenDown { exit: true, volumes: false }));
        let _ = self.command(control::Command::Down)?;
        Ok(())
    }
}
